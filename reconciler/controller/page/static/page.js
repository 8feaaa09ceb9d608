"use strict";
// Keeps the page up to date.  Without it the page loads itself anew now and then, and all of it works.
(() => {
  const body = document.body, line = document.getElementById("line"), word = document.getElementById("line-word");
  const path = body.dataset.events;
  const WAIT = 3000, LATE = 45000;
  let since = body.dataset.since, source = null, heard = Date.now(), ahead = 0, live = false, wrong = "";

  const age = (seconds) => {
    const s = Math.abs(Math.round(seconds));
    if (s < 90) return `${s} s`;
    if (s < 5400) return `${Math.round(s / 60)} min`;
    if (s < 129600) return `${Math.round(s / 3600)} h`;
    return `${Math.round(s / 86400)} d`;
  };
  const times = () => {
    const now = Date.now() + ahead;
    for (const one of document.querySelectorAll("time")) {
      const at = Date.parse(one.dateTime);
      if (Number.isNaN(at)) continue;
      if (!one.title) one.title = one.textContent;
      const text = at > now ? `in ${age((at - now) / 1000)}` : `${age((now - at) / 1000)} ago`;
      if (one.textContent !== text) one.textContent = text;
    }
  };
  const say = () => {
    const still = (Date.now() - heard) / 1000;
    line.classList.toggle("live", live && !wrong && still * 1000 < LATE);
    line.classList.toggle("away", !live || Boolean(wrong) || still * 1000 >= LATE);
    let text = "live";
    if (still * 1000 >= LATE || !live) text = `reconnecting; this is ${age(still)} old`;
    else if (wrong) text = `old: ${wrong}`;
    if (word.textContent !== text) word.textContent = text;
  };
  const made = (html) => {
    const holder = document.createElement("template");
    holder.innerHTML = html.trim();
    return holder.content.firstElementChild;
  };
  const put = (id, html) => {
    const fresh = made(html), old = document.getElementById(id);
    if (!fresh) return null;
    if (!old) return fresh;
    old.replaceWith(fresh);
    if (id.startsWith("row-")) fresh.classList.add("fresh");
    return fresh;
  };
  const focus = () => {
    // What is put anew loses the focus: whoever had it gets it back.
    const held = document.activeElement, part = held && held.closest("main [id]");
    if (!part || held === part) return () => {};
    const id = part.id, places = "a,button,summary,input,select";
    const place = [...part.querySelectorAll(places)].indexOf(held);
    return () => {
      if (document.activeElement === held) return;
      const now = document.getElementById(id);
      if (now && place >= 0) now.querySelectorAll(places)[place]?.focus({ preventScroll: true });
    };
  };
  const change = (event) => {
    const found = JSON.parse(event.data), rows = document.getElementById("rows");
    const again = focus();
    const fresh = new Map();
    for (const [id, html] of Object.entries(found.parts)) fresh.set(id, put(id, html));
    if (found.order && rows) {
      const wanted = found.order.filter((id) => id.startsWith("row-"));
      for (const one of [...rows.children]) if (!wanted.includes(one.id)) one.remove();
      wanted.forEach((id, place) => {
        const one = document.getElementById(id) || fresh.get(id);
        if (one && rows.children[place] !== one) rows.insertBefore(one, rows.children[place] || null);
      });
      document.getElementById("nothing").hidden = wanted.length > 0;
    }
    if (event.lastEventId) since = event.lastEventId;
    const state = document.getElementById("state");
    if (state && state.dataset.title) document.title = state.dataset.title;
    again();
    alive();
    copies();
    times();
  };
  const alive = () => { heard = Date.now(); live = true; say(); };
  const open = () => {
    const join = path.endsWith("?") ? "" : "&";
    source = new EventSource(`${path}${join}since=${encodeURIComponent(since)}`);
    source.addEventListener("open", alive);
    source.addEventListener("change", change);
    source.addEventListener("reset", change);
    source.addEventListener("pulse", (event) => {
      const found = JSON.parse(event.data);
      ahead = Date.parse(found.at) - Date.now();
      wrong = found.trouble;
      alive();
      times();
    });
    source.addEventListener("error", () => {
      live = false;
      say();
      if (source.readyState === EventSource.CLOSED) window.setTimeout(open, WAIT);
    });
  };
  const copies = () => {
    if (!navigator.clipboard) return;
    for (const button of document.querySelectorAll(".copy[hidden]")) {
      button.hidden = false;
      button.addEventListener("click", () => {
        navigator.clipboard.writeText(button.previousElementSibling.textContent).then(
          () => { button.textContent = "Copied"; }, () => { button.textContent = "Select it"; });
      });
    }
  };
  const log = document.querySelector("#log[data-follow]");
  const follow = async () => {
    if (!document.hidden) {
      try {
        const answer = await fetch(log.dataset.follow, { redirect: "error" });
        const read = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("log");
        if (answer.ok && read) {
          const end = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
          if (read.innerHTML !== log.innerHTML) log.replaceChildren(...read.childNodes);
          if (end) log.scrollTop = log.scrollHeight;
          alive();
        } else live = false;
      } catch { live = false; }
      say();
    }
    window.setTimeout(follow, 5000);
  };
  copies();
  times();
  window.setInterval(() => { times(); if (path || log) say(); }, 5000);
  if (log) { log.scrollTop = log.scrollHeight; window.setTimeout(follow, 5000); }
  if (path) { live = true; open(); }
})();
