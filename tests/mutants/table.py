"""
The ways in which the code is broken on purpose, and the tests that must notice.

Each takes away one safety property.  `before` stands exactly once in its file, and a test of the
ordinary suite says so: no mutant silently stops being one.
"""

from dataclasses import dataclass

JOBS = "tests/deploy/test_ci.py"
SUPPLY = "tests/house/test_supply_chain.py"
DEATHS = "tests/crash/test_one_shot_deaths.py"
PAUSED = "tests/crash/test_paused.py"
LAST_LOOK = "tests/apply/test_last_look.py"
RULES = "tests/plan/test_requests.py"
HALTS = "tests/plan/test_robots.py"
STORY = "tests/e2e/test_requests.py"
APPROVAL = "tests/e2e/test_approval.py"
CONSENT = "tests/e2e/test_consent.py"
POLICY = "tests/e2e/test_policy.py"
EXFILTRATION = "tests/e2e/test_exfiltration.py"
LEDGER = "tests/crash/test_ledger_trouble.py"
DRIVER = "tests/contract/test_drivers.py"
SESSION = "tests/drivers/jt_trader/test_driver.py"
WRITES = "tests/e2e/test_apply_faults.py"
LOOP = "tests/controller/test_controller.py"
SHARED = "tests/controller/test_shared.py"
TIMES = "tests/controller/test_requeue.py"
ENDS = "tests/controller/test_pass_result.py"
ROLE = "tests/controller/test_role.py"
RESOLVER = "tests/observe/test_resolver.py"
GATE = "tests/e2e/test_gate.py"
HARM = "tests/e2e/test_harm.py"
BRAKES = "tests/ledger/test_brakes.py"
BREAKER = "tests/apply/test_circuit_breaker.py"
JUDGE = "tests/exchanges/test_judge.py"
CLASSIFY = "tests/exchanges/test_classify.py"
CLIENT = "tests/exchanges/test_ccxt_client.py"
SUITES = "tests/exchanges/adapters"
AUDITOR = "tests/exchanges/test_auditor.py"
AUDITS = "tests/controller/test_scheduled_audits.py"
PLAN_FILES = "tests/fuzz/test_plan_files.py"
ROWS = "tests/fuzz/test_ledger_rows.py"
CODEC = "tests/model/test_codec.py"
EVIL = "tests/threats/test_t09_yaml.py"
HISTORIES = "tests/properties/test_histories.py::test_a_known_history_does_no_harm"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One way to break *file*: *before* becomes *after*, and *tests* must turn red."""

    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]

    def applied(self, text: str) -> str:
        """Return the broken text; ValueError when *before* does not stand there exactly once."""
        if text.count(self.before) != 1:
            raise ValueError(f"{self.name}: stands {text.count(self.before)} times in {self.file}")
        return text.replace(self.before, self.after)


MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "robots that another process stopped since are settled with the earlier ones",
        "reconciler/reconcile/apply.py",
        "                if halt is not None and planned is not None and halt.at == planned.at:",
        "                if halt is not None:",
        ("tests/properties/test_histories.py::test_a_known_history_does_no_harm",),
    ),
    Mutant(
        "a robot that a person stopped just before a reboot is started after it",
        "reconciler/apply/send.py",
        "    if gone := [one.name for one in execution.to_stop if one.id not in running]:",
        "    if gone := list[str]():",
        (HISTORIES,),
    ),
    # ── what is installed ────────────────────────────────────────────────────────────────────
    Mutant(
        "what has no hash is installed",
        "Makefile",
        "LOCKED := $(PIP) install --require-hashes --no-build-isolation",
        "LOCKED := $(PIP) install --no-build-isolation",
        (SUPPLY,),
    ),
    Mutant(
        "what builds the package is fetched without a hash",
        "Makefile",
        "\t$(PIP) install --no-deps --no-build-isolation --no-index --editable .\n",
        "\t$(PIP) install --no-deps --editable .\n",
        (SUPPLY,),
    ),
    # ── who gets a login ─────────────────────────────────────────────────────────────────────
    *(
        Mutant(
            f"a job of another {what} may apply",
            "deploy/vault/github-apply.json",
            f"    {line},\n",
            "",
            (f"{JOBS}::test_t17_a_wrong_claim_is_refused",),
        )
        for what, line in (
            ("repository", '"repository_id": "REPOSITORY_ID"'),
            ("branch", '"ref": "refs/heads/main"'),
            ("environment", '"environment": "jtr-TEAM-apply"'),
        )
    ),
    Mutant(
        "a pull request reads values",
        "deploy/vault/team-plan.hcl",
        'path "secret/metadata/jt/TEAM/*" {',
        'path "secret/+/jt/TEAM/*" {',
        (f"{JOBS}::test_t3_a_pull_request_reads_no_value_and_writes_nothing",),
    ),
    Mutant(
        "a team whose name begins like another's reads that one's secrets",
        "deploy/vault/team-apply.hcl",
        'path "secret/data/jt/TEAM/*" {',
        'path "secret/data/jt/TEAM*" {',
        (f"{JOBS}::test_t3_one_teams_login_reads_nothing_of_another",),
    ),
    Mutant(
        "a job leaves its login on the runner",
        "deploy/github/apply.yaml",
        """          trap 'rm -rf "$private"' EXIT\n""",
        "",
        (f"{JOBS}::test_t17_a_job_that_is_cancelled_leaves_no_login",),
    ),
    # ── what others may have written ─────────────────────────────────────────────────────────
    Mutant(
        "a plan file that was changed is taken",
        "reconciler/render/plan_json.py",
        "    if document.get(_SEAL) != _digest(_said(document)):\n",
        "    if _SEAL not in document:\n",
        (f"{PLAN_FILES}::test_t12_every_flipped_bit_of_a_plan_file_is_recognised",),
    ),
    Mutant(
        "the shape of a plan file that is sealed is trusted",
        "reconciler/cli/apply.py",
        "        if valid(document, PLAN):\n",
        "        if document:\n",
        (f"{PLAN_FILES}::test_a_sealed_file_of_another_shape_is_refused",),
    ),
    Mutant(
        "a time in a ledger is any text",
        "reconciler/model/codec.py",
        "    Stamp: (_same, _stamp),\n",
        "    Stamp: (_same, _text),\n",
        (f"{ROWS}::test_a_row_with_a_time_that_is_none_is_named",),
    ),
    Mutant(
        "a time that no clock shows is read",
        "reconciler/model/codec.py",
        "    if not _EPOCH <= moment <= _LAST:\n",
        "    if moment is None:\n",
        (CODEC,),
    ),
    Mutant(
        "what nests without end is read",
        "reconciler/model/codec.py",
        "    _check_depth(found)\n",
        "",
        (CODEC,),
    ),
    Mutant(
        "what a ledger says drives the terminal",
        "reconciler/render/phrases.py",
        "the {plain(debt.exchange)} key",
        "the {debt.exchange} key",
        (f"{ROWS}::test_a_debt_drives_no_terminal",),
    ),
    Mutant(
        "a file holds any number of documents",
        "reconciler/documents/yaml_reader.py",
        "            if self._begun > DOCUMENTS_LIMIT:\n",
        "            if self._begun < 0:\n",
        (f"{EVIL}::test_t9_a_huge_evil_document_costs_little",),
    ),
    Mutant(
        "every problem of a document is noted",
        "reconciler/documents/yaml_reader.py",
        "        if self._noted <= PROBLEMS_LIMIT:\n",
        "        if self._noted:\n",
        (f"{EVIL}::test_t9_a_huge_evil_document_costs_little",),
    ),
    Mutant(
        "folders of a ledger in Vault never end",
        "reconciler/ledger/stores/vault_kv.py",
        "        if folders:\n            raise LedgerError(\n",
        "        if folders is None:\n            raise LedgerError(\n",
        ("tests/fuzz/test_stores.py::test_folders_without_end_are_no_ledger",),
    ),
    Mutant(
        "one that a person stopped after our death is started by the second try",
        "reconciler/apply/requests.py",
        "        return self._asked or running.issuperset(robot.id for robot in request.ran)",
        "        return self._asked or bool(running)",
        (HISTORIES,),
    ),
    Mutant(
        "nobody brakes after a mistake of ours in mid-write",
        "reconciler/apply/execution.py",
        "                if self.sent:\n",
        "                if self.sent and False:\n",
        (
            "tests/e2e/test_apply_faults.py::test_a_mistake_after_a_write_was_sent_engages_the_brake",
        ),
    ),
    Mutant(
        "a server is spared for long because Vault was away",
        "reconciler/controller/pass_result.py",
        "    return most if Exit.SERVER in codes else min(most, timeouts.interval)",
        "    return most",
        ("tests/controller/test_pass_result.py",),
    ),
    # ── the process and its files ────────────────────────────────────────────────────────────
    Mutant(
        "a core may hold the token",
        "reconciler/bootstrap.py",
        "    keep_memory_private()\n",
        "",
        ("tests/system/test_protect.py",),
    ),
    Mutant(
        "settings may be anybody's",
        "reconciler/system/files.py",
        "    if facts.st_mode & 0o022:\n        raise WritableByOthers",
        "    if False:\n        raise WritableByOthers",
        ("tests/settings/test_load.py",),
    ),
    Mutant(
        "the owner of a secret has no word",
        "reconciler/observe/resolver.py",
        "                self._check_binding(ref.at, info, target)\n",
        "",
        ("tests/e2e/test_targets.py",),
    ),
    Mutant(
        "the owner of a login has no word",
        "reconciler/observe/resolver.py",
        "            return held[1]\n        self._check_binding(ref.at, info, target)\n",
        "            return held[1]\n",
        ("tests/e2e/test_targets.py",),
    ),
    Mutant(
        "a secret that must be bound need not be",
        "reconciler/observe/resolver.py",
        "        if info.targets is None and self._require_binding:\n",
        "        if False:\n",
        (POLICY,),
    ),
    # ── who may have what ────────────────────────────────────────────────────────────────────
    Mutant(
        "nobody is asked about a new recipient",
        "reconciler/observe/visit.py",
        "    fresh = Fresh.of(new_recipient(visit.desired, visit.recorded))\n",
        "    fresh = NOTHING_FRESH\n",
        (CONSENT, EXFILTRATION),
    ),
    Mutant(
        "the settings' allow speaks for a new recipient",
        "reconciler/policy/model.py",
        "        return bool(self.source)\n",
        "        return True\n",
        (EXFILTRATION,),
    ),
    Mutant(
        "a login is sent to whoever is visited",
        "reconciler/observe/visit.py",
        "    if visit.withheld is None or visit.withheld.hides:\n",
        "    if False:\n",
        (CONSENT,),
    ),
    Mutant(
        "values of a new path are sent to a known server",
        "reconciler/plan/exchange.py",
        "        if line.action is not None and self._withheld(sources):\n",
        "        if False:\n",
        (CONSENT, EXFILTRATION),
    ),
    Mutant(
        "values that nobody agreed to are sent, planned or not",
        "reconciler/apply/send.py",
        " or any(ref.at in withheld.paths for _, ref in sources)",
        "",
        (LAST_LOOK,),
    ),
    Mutant(
        "a yes to one secret is a yes to the login",
        "reconciler/model/recipients.py",
        "        return self.contact or bool(self.login)\n",
        "        return self.contact\n",
        (CONSENT,),
    ),
    Mutant(
        "what a policy denies is written",
        "reconciler/plan/exchange.py",
        "        if self.facts.denied(PolicyAction.DELETE if absent",
        "        if False and (PolicyAction.DELETE if absent",
        (POLICY,),
    ),
    Mutant(
        "what a policy denies is written, planned or not",
        "reconciler/apply/send.py",
        "    execution.context.policy.check(desired, *_permission(action))\n",
        "    execution.context.policy.check(desired)\n",
        (LAST_LOOK,),
    ),
    Mutant(
        "a request that a policy denies is done",
        "reconciler/plan/server.py",
        "    if line.action is None or not facts.denied(action):\n",
        "    if True:\n",
        (POLICY,),
    ),
    Mutant(
        "robots that a policy leaves alone are restarted",
        "reconciler/plan/server.py",
        'refuses[0] or (DENIED if facts.denied(PolicyAction.RESTART) else "")',
        "refuses[0]",
        (POLICY,),
    ),
    Mutant(
        "drift heals itself against a policy",
        "reconciler/plan/exchange.py",
        " and not self.facts.denied(PolicyAction.SELF_HEAL)",
        "",
        (POLICY,),
    ),
    Mutant(
        "a document takes over against a policy",
        "reconciler/plan/exchange.py",
        "not self.record.ever and not denied\n",
        "not self.record.ever\n",
        (POLICY,),
    ),
    Mutant(
        "a violation ends with 0",
        "reconciler/model/plan.py",
        "        if self.violations:\n",
        "        if False:\n",
        (POLICY,),
    ),
    Mutant(
        "limits of a policy are no limits",
        "reconciler/plan/fleet.py",
        "        if limit is not None and total[name] > limit:\n",
        "        if False:\n",
        ("tests/plan/test_fleet.py",),
    ),
    Mutant(
        "any share of the servers is changed",
        "reconciler/plan/fleet.py",
        "    if share is not None and total[SERVERS] > max(1, fleet * share // 100):\n",
        "    if False:\n",
        ("tests/plan/test_fleet.py",),
    ),
    Mutant(
        "a policy may lie with the documents",
        "reconciler/settings/load.py",
        '        refuse_in_tree(file, self._trees, "policy")\n',
        "",
        (POLICY,),
    ),
    Mutant(
        "a name gets secrets that are tied to nothing",
        "reconciler/policy/load.py",
        "    if _trusts_names(rule):\n",
        "    if False:\n",
        ("tests/policy/test_load.py",),
    ),
    Mutant(
        "a link makes a document another team's",
        "reconciler/documents/files.py",
        "        real = os.path.realpath(path)\n        folder",
        "        real = os.path.abspath(path)\n        folder",
        ("tests/documents/test_places.py",),
    ),
    # ── what a plan says ─────────────────────────────────────────────────────────────────────
    Mutant(
        "recipients are not compared before anything is contacted",
        "reconciler/cli/apply.py",
        "        expected.check(state)\n",
        "        pass\n",
        (APPROVAL,),
    ),
    Mutant(
        "a login is no part of a plan's id",
        "reconciler/model/recipients.py",
        "self.target.account, login, [str(path)",
        "self.target.account, [str(path)",
        (APPROVAL,),
    ),
    Mutant(
        "another login is no news",
        "reconciler/plan/recipients.py",
        "    if wanted is not None and wanted != known:",
        "    if False:",
        (APPROVAL,),
    ),
    Mutant(
        "robots of a found-out reboot are named by no plan",
        "reconciler/plan/server.py",
        "        known = replace(known, halt=left_owed(known.open, terms))\n",
        "        pass\n",
        (RULES,),
    ),
    Mutant(
        "whatever plan was applied is the expected one",
        "reconciler/cli/apply.py",
        "        return plan_id in await asyncio.to_thread(self.context.ledger.applied)",
        "        return bool(await asyncio.to_thread(self.context.ledger.applied))",
        (APPROVAL,),
    ),
    # ── sending ──────────────────────────────────────────────────────────────────────────────
    Mutant(
        "the nonce is not read again before sending",
        "reconciler/apply/requests.py",
        "            await asyncio.to_thread(self._book.confirm, attempt.nonce)\n",
        "",
        (PAUSED,),
    ),
    Mutant(
        "the send window is ignored",
        "reconciler/apply/requests.py",
        "            self._in_time(attempt)\n",
        "",
        (PAUSED,),
    ),
    Mutant(
        "no intent is written before sending",
        "reconciler/apply/requests.py",
        "        await self._promised(request, partial(self._book.ask, request))\n",
        "",
        (DEATHS,),
    ),
    Mutant(
        "silence is taken for nothing sent",
        "reconciler/apply/requests.py",
        "        except send.Unanswered:\n            self._asked = True\n"
        "            return False\n",
        "        except send.Unanswered:\n"
        "            await asyncio.to_thread(self._book.unsend, attempt.nonce)\n"
        "            raise\n",
        (f"{STORY}::test_an_invalidation_without_an_answer_is_for_people",),
    ),
    Mutant(
        "done before there is evidence",
        "reconciler/apply/requests.py",
        "            if answered:\n                done = replace(request",
        "            if True:\n                done = replace(request",
        (f"{STORY}::test_an_invalidation_without_an_answer_is_for_people",),
    ),
    Mutant(
        "nobody waits until a late request has landed",
        "reconciler/apply/requests.py",
        "        return max(0.0, patience - since) if since is not None and ours else patience",
        "        return 0.0",
        (DEATHS, PAUSED),
    ),
    Mutant(
        "a reboot is tried for ever",
        "reconciler/model/recorded.py",
        "MOST_ATTEMPTS = 2",
        "MOST_ATTEMPTS = 99",
        (f"{STORY}::test_when_both_tries_fail_it_is_not_done_and_robots_are_named", RULES),
    ),
    Mutant(
        "a payload goes with the reboot",
        "reconciler/drivers/jt_trader/requests.py",
        'REBOOT: Final = Request("reboot-system-request", "", writes=True)',
        'REBOOT: Final = Request("reboot-system-request", "", writes=True, takes=int)',
        ("tests/drivers/jt_trader/test_requests.py", "tests/drivers/connection/test_asking.py"),
    ),
    Mutant(
        "invalidate after reboot",
        "reconciler/model/actions.py",
        "    InvalidateCache,  # never after the reboot: robots save their state while they stop\n"
        "    RebootServer,\n",
        "    RebootServer,\n    InvalidateCache,\n",
        (f"{STORY}::test_everything_in_its_order_and_only_once", RULES),
    ),
    Mutant(
        "one more while another is open",
        "reconciler/ledger/request_state.py",
        "    if requests.open is not None:\n        raise Blocked(\n            f",
        "    if False:\n        raise Blocked(\n            f",
        ("tests/ledger/test_requests.py",),
    ),
    # ── what counts as done ──────────────────────────────────────────────────────────────────
    Mutant(
        "our own boot found after a crash is taken for a foreign one",
        "reconciler/apply/requests.py",
        "            stage=Stage.DONE,\n            boot=lines[-1],",
        "            stage=Stage.SATISFIED,\n            boot=lines[-1],",
        (DEATHS,),
    ),
    Mutant(
        "a boot line from before proves a reboot",
        "reconciler/plan/boot_proof.py",
        "    if last not in attempt.boots:",
        "    if last == attempt.boots[-1]:\n        return Proof.BOOTED\n"
        "    if last not in attempt.boots:",
        (RULES,),
    ),
    Mutant(
        "a log of several processes proves that one is alive",
        "reconciler/plan/boot_proof.py",
        "    alive = last == attempt.boots[-1] and not log.strangers",
        "    alive = last == attempt.boots[-1]",
        (RULES,),
    ),
    Mutant(
        "clocks are compared naively",
        "reconciler/plan/boot_proof.py",
        "log.boots[-1].time / 1000 - clock.ahead, UTC)",
        "log.boots[-1].time / 1000, UTC)",
        (RULES,),
    ),
    Mutant(
        "a proxy's clock is believed",
        "reconciler/plan/boot_proof.py",
        "    return log.newest / 1000 <= now.timestamp() + clock.ahead + clock.uncertainty",
        "    return True",
        (RULES,),
    ),
    Mutant(
        "a revert to an earlier instant is done",
        "reconciler/plan/requests.py",
        "    if handled is not None and wish.instant <= handled:",
        "    if handled is not None and wish.instant == handled:",
        (RULES,),
    ),
    Mutant(
        "what is older than the ledger is run",
        "reconciler/plan/requests.py",
        "    if terms.baseline is not None and wish.instant < terms.baseline:",
        "    if False:",
        (RULES,),
    ),
    Mutant(
        "a schedule is done at once",
        "reconciler/plan/requests.py",
        "    if terms.now < wish.instant:",
        "    if False:",
        (RULES,),
    ),
    Mutant(
        "expired requests are done",
        "reconciler/plan/requests.py",
        "    if terms.now - wish.instant > wish.expires_after:\n        return replace(\n"
        "            nothing,",
        "    if False:\n        return replace(\n            nothing,",
        (RULES,),
    ),
    Mutant(
        "a clock that jumped is believed",
        "reconciler/plan/requests.py",
        "        if terms.unsteady and line.standing in TIMELY:",
        "        if False:",
        (RULES,),
    ),
    Mutant(
        "a ledger that may have forgotten is believed",
        "reconciler/plan/requests.py",
        "    if terms.refused:\n",
        "    if False:\n",
        (RULES,),
    ),
    Mutant(
        "two names of one server are two servers",
        "reconciler/plan/fleet.py",
        "            if other.url != target.url and _goes_on(lines, others):\n",
        "            if False:\n",
        (RULES,),
    ),
    Mutant(
        "an error of a robot's own script counts as fatal",
        "reconciler/drivers/jt_trader/responses.py",
        "            if what == ALARM and not _harmless(entry):\n",
        "            if what == ALARM:\n",
        ("tests/drivers/jt_trader/test_responses.py",),
    ),
    Mutant(
        "a cause that nobody knows counts as harmless",
        "reconciler/drivers/jt_trader/responses.py",
        'return cause if isinstance(cause, str) and cause in HARMLESS else ""',
        "return str(cause)",
        ("tests/drivers/jt_trader/test_responses.py",),
    ),
    # ── the last look ────────────────────────────────────────────────────────────────────────
    Mutant(
        "a connection to another server is used",
        "reconciler/apply/send.py",
        "    if execution.session.target != desired.target:",
        "    if False:",
        (LAST_LOOK,),
    ),
    Mutant(
        "an address that the operator took off the list is written to",
        "reconciler/apply/send.py",
        "    execution.context.policy.check(desired, *_permission(action))\n",
        "    pass\n",
        (LAST_LOOK,),
    ),
    Mutant(
        "a version that changed meanwhile is written to",
        "reconciler/apply/send.py",
        "    if execution.seen.version != execution.planned.version:",
        "    if False:",
        (LAST_LOOK,),
    ),
    Mutant(
        "a brake that was put on meanwhile is not seen",
        "reconciler/apply/send.py",
        "    execution.brake.check(finishing=action is None)\n",
        "    pass\n",
        (LAST_LOOK,),
    ),
    Mutant(
        "a lease that was lost meanwhile is not seen",
        "reconciler/apply/send.py",
        "    execution.check_lease()\n",
        "    pass\n",
        (LAST_LOOK,),
    ),
    Mutant(
        "what a removed document asked for is done",
        "reconciler/apply/send.py",
        "    if server is None:",
        "    if False:",
        (LAST_LOOK,),
    ),
    Mutant(
        "a server that was suspended meanwhile is changed",
        "reconciler/apply/send.py",
        "    if suspension is not None and (suspension.until is None or now < suspension.until):",
        "    if False:",
        (LAST_LOOK,),
    ),
    Mutant(
        "a server that is only to be observed since is changed",
        "reconciler/apply/send.py",
        "    if server.mode is Mode.OBSERVE:",
        "    if False:",
        (LAST_LOOK,),
    ),
    Mutant(
        "what the newest document asks for no more is done",
        "reconciler/apply/send.py",
        "    if not _asks(server, execution.desired, action):",
        "    if False:",
        (LAST_LOOK,),
    ),
    Mutant(
        "a request that expired while it waited is done",
        "reconciler/apply/send.py",
        "        if wish is not None and now - wish.instant > wish.expires_after:",
        "        if False:",
        (LAST_LOOK,),
    ),
    Mutant(
        "a window that closed meanwhile counts as open",
        "reconciler/apply/send.py",
        "    if not opening.open:",
        "    if False:",
        (LAST_LOOK,),
    ),
    Mutant(
        "a key that another hand wrote meanwhile is overwritten",
        "reconciler/apply/send.py",
        "            if face(seen, exchange) != face(planned, exchange):",
        "            if False:",
        (LAST_LOOK,),
    ),
    Mutant(
        "a delete goes on under a robot that was started",
        "reconciler/apply/send.py",
        "            if robots := seen.running(exchange):",
        "            if robots := ():",
        (LAST_LOOK,),
    ),
    Mutant(
        "a reboot stops robots that nobody was told of",
        "reconciler/apply/send.py",
        "    if fresh := [one.name for one in execution.seen.running() if one.id not in named]:",
        "    if fresh := list[str]():",
        (LAST_LOOK,),
    ),
    # ── robots ───────────────────────────────────────────────────────────────────────────────
    Mutant(
        "robots are started again after a foreign boot",
        "reconciler/plan/robots.py",
        "    if not terms.log.boots or terms.log.boots[-1] != halt.boot:",
        "    if False:",
        (HALTS, DEATHS),
    ),
    Mutant(
        "robots are started although somebody else is at work",
        "reconciler/plan/robots.py",
        "    if strange := running - others - begun - restored:",
        "    if strange := set[int]():",
        (HALTS,),
    ),
    Mutant(
        "robots are started however late",
        "reconciler/plan/robots.py",
        "    if terms.since_halt is None or not 0 <= terms.since_halt <= halt.within:",
        "    if False:",
        (HALTS,),
    ),
    Mutant(
        "a restart stops a robot that nobody will remember",
        "reconciler/apply/robots.py",
        "            await asyncio.to_thread(self._book.halt, halt)\n",
        "",
        (DEATHS,),
    ),
    Mutant(
        "a start is not noted before it is sent",
        "reconciler/apply/robots.py",
        "        await asyncio.to_thread(self._book.begin, robot.id)\n",
        "",
        (DEATHS,),
    ),
    Mutant(
        "robots that the server restored are taken for somebody else's",
        "reconciler/plan/robots.py",
        "    if strange := running - others - begun - restored:\n",
        "    if strange := running - others - begun:\n",
        (HALTS, f"{STORY}::test_robots_that_the_server_restored_are_no_meddling"),
    ),
    Mutant(
        "a robot that runs and did not before is nobody's business",
        "reconciler/plan/robots.py",
        "    if strange := running - others - begun - restored:\n",
        "    if strange := set[int]():\n",
        (HALTS,),
    ),
    Mutant(
        "robots that a person starts meanwhile count as restored",
        "reconciler/apply/robots.py",
        "            restored=starts.restored,\n",
        "            restored=restored(starts.halt, seen.robots),\n",
        (f"{STORY}::test_a_person_at_work_on_the_robots_is_left_alone",),
    ),
    Mutant(
        "a restored robot that stopped again is started",
        "reconciler/apply/robots.py",
        "(starts.began | starts.restored) - self._running()",
        "starts.began - self._running()",
        (f"{STORY}::test_a_restored_one_that_stops_again_is_not_started",),
    ),
    Mutant(
        "a request goes on although robots are left stopped",
        "reconciler/plan/server.py",
        "        if line.ready is not None or line.standing is Standing.FOUND_OUT:\n",
        "        if True:\n",
        (RULES,),
    ),
    Mutant(
        "a request goes on after one that was not done",
        "reconciler/plan/requests.py",
        "        if line.standing is Standing.FOUND_OUT and _booted(doubt, terms):\n",
        "        if line.standing is Standing.FOUND_OUT:\n",
        (RULES,),
    ),
    Mutant(
        "a reboot does not name the robots that this pass starts before it",
        "reconciler/plan/server.py",
        "            robots = started(line.robots, robots)\n",
        "",
        (RULES,),
    ),
    Mutant(
        "a reboot takes robots that this pass started for somebody else's",
        "reconciler/apply/send.py",
        "(*execution.planned.running(), *told)",
        "execution.planned.running()",
        (f"{STORY}::test_a_new_one_waits_for_no_other_apply",),
    ),
    Mutant(
        "robots that the server restored against the wish are told to be stopped",
        "reconciler/apply/requests.py",
        "        stopped = [robot for robot in done.ran if robot.id not in running]\n"
        "        again = [robot for robot in done.ran if robot.id in running]\n",
        "        stopped = [*done.ran]\n        again = []\n",
        (f"{STORY}::test_robots_that_the_server_restored_against_the_wish_are_named",),
    ),
    Mutant(
        "the new connection is opened before the old one is closed",
        "reconciler/apply/robots.py",
        "        await visit.close()\n        await enter(visit, self._execution.context)\n"
        "        session = self._execution.session\n",
        "        old = visit.session\n        await enter(visit, self._execution.context)\n"
        "        session = self._execution.session\n        await old.close()\n",
        (f"{STORY}::test_one_that_fails_and_one_that_stops_itself_harm_no_other",),
    ),
    Mutant(
        "robots are restarted where only a reboot helps",
        "reconciler/plan/robots.py",
        "        elif exchange in cached:",
        "        elif False:",
        (HALTS,),
    ),
    Mutant(
        "a fleet goes on after a server that did not come back",
        "reconciler/reconcile/apply.py",
        "                    disruption_budget.shut(why, execution.desired.target)",
        "                    pass",
        (f"{STORY}::test_a_fleet_stops_at_the_first_server_that_does_not_come_back",),
    ),
    # ── the ledger ───────────────────────────────────────────────────────────────────────────
    Mutant(
        "a row that was understood is taken in any place",
        "reconciler/ledger/codec/records.py",
        "    _check_place(key, row)\n",
        "",
        ("tests/ledger/codec/test_records.py",),
    ),
    Mutant(
        "on virtual time nobody acts while a thread is waited for",
        "reconciler/testing/virtual_time.py",
        "            self.call_soon(_tell, future, future.set_result, func(*args))\n",
        "            _tell(future, future.set_result, func(*args))\n",
        ("tests/testing/test_virtual_time.py",),
    ),
    Mutant(
        "what the ledger could not take is forgotten",
        "reconciler/apply/requests.py",
        "            told = await asyncio.to_thread(self._left_behind, request)",
        '            told = ""',
        (LEDGER,),
    ),
    Mutant(
        "the revision that was loaded is not compared",
        "reconciler/ledger/requests.py",
        "        if (stored.revision if stored else 0) != expect:\n            raise _moved_on()\n",
        "        expect = stored.revision if stored else 0\n",
        (PAUSED, "tests/ledger/test_requests.py"),
    ),
    # ── whole histories ──────────────────────────────────────────────────────────────────────
    Mutant(
        "in a history the documents of the plan stay in force",
        "reconciler/controller/shared.py",
        "            in_force=lambda planned: self.in_force.get(planned.target),\n",
        "            in_force=lambda planned: planned,\n",
        (HISTORIES,),
    ),
    Mutant(
        "in a history a suspension stops nothing that is under way",
        "reconciler/apply/send.py",
        "    if suspension is not None and (suspension.until is None or now < suspension.until):\n",
        "    if suspension is not None and suspension.by is None:\n",
        (HISTORIES,),
    ),
    Mutant(
        "in a history mode: observe stops nothing that is under way",
        "reconciler/apply/send.py",
        "    if server.mode is Mode.OBSERVE:\n",
        "    if server.mode is None:\n",
        (HISTORIES,),
    ),
    Mutant(
        "in a history the newest document is not asked for the action itself",
        "reconciler/apply/send.py",
        "    if not _asks(server, execution.desired, action):\n",
        "    if server is None:\n",
        (HISTORIES,),
    ),
    Mutant(
        "a delete that read once more is not looked at again",
        "reconciler/drivers/jt_trader/driver.py",
        "            still()\n",
        "",
        (DRIVER,),
    ),
    Mutant(
        "in a history the log of requests forgets what was handled",
        "reconciler/ledger/request_state.py",
        "    return replace(requests, handled=handled, "
        "past=(*requests.past, _brief(request))[-KEPT:])\n",
        "    return requests\n",
        (HISTORIES,),
    ),
    Mutant(
        "in a history robots are released without their start",
        "reconciler/apply/requests.py",
        "        woken = await self._robots.wake(halt)\n",
        "        await self._robots.release()\n"
        "        woken = await self._robots.wake(replace(halt, robots=()))\n",
        (HISTORIES,),
    ),
    Mutant(
        "in a history nobody notes who is about to be stopped",
        "reconciler/apply/robots.py",
        "            await asyncio.to_thread(self._book.halt, halt)\n            try:\n",
        "            try:\n",
        (HISTORIES,),
    ),
    # ── credentials ──────────────────────────────────────────────────────────────────────────
    Mutant(
        "a write has no intent",
        "reconciler/apply/credentials.py",
        "    await asyncio.to_thread(\n"
        "        execution.ledger.intend, visit.uid, code, write, debts, "
        "boot=before.log.boot\n    )\n",
        "",
        ("tests/crash/test_deaths.py",),
    ),
    Mutant(
        "harm does not put the brake on",
        "reconciler/apply/execution.py",
        "            await self.engage(HARM, before.version)\n",
        "            pass\n",
        (HARM,),
    ),
    Mutant(
        "harm that the log shows late is not looked for",
        "reconciler/apply/execution.py",
        "        while not Aftermath(before, self.seen, answered=True).alarm:\n",
        "        while False:\n",
        (HARM,),
    ),
    Mutant(
        "robots on their way up again are taken for harm",
        "reconciler/apply/execution.py",
        "        while not Aftermath(before, self.seen, answered=True).alarm:\n",
        "        while not Aftermath(before, self.seen, answered=True).harmed:\n",
        (HARM,),
    ),
    Mutant(
        "nobody looks again after the last write of a server",
        "reconciler/reconcile/apply.py",
        "        if (end := await self._execution.late_harm()) is not None:\n",
        "        if (end := None) is not None:\n",
        (HARM,),
    ),
    Mutant(
        "a delete is planned again while the first one may land",
        "reconciler/apply/credentials.py",
        "        return await execution.landed(before, sent_at, patience)\n",
        "        pass\n",
        ("tests/e2e/test_apply_absent.py",),
    ),
    Mutant(
        "a mistake on one server ends the others unheard",
        "reconciler/reconcile/apply.py",
        "    except Exception as error:  # noqa: BLE001  - the others go on",
        "    except ZeroDivisionError as error:  # the others go on",
        (WRITES,),
    ),
    Mutant(
        "robots are said to need a restart where the server caches another hand's secret",
        "reconciler/plan/consequences.py",
        "    mixed = _mixed(record, shown)\n",
        "    mixed = False\n",
        ("tests/plan/test_compare.py",),
    ),
    # ── the driver ───────────────────────────────────────────────────────────────────────────
    Mutant(
        "a version that nobody tested is read in vain at every pass",
        "reconciler/drivers/jt_trader/untested_reads.py",
        "        if silent >= MOST:\n",
        "        if False:\n",
        (SESSION,),
    ),
    Mutant(
        "another client's list is taken for the answer to a start",
        "reconciler/drivers/jt_trader/robot_answers.py",
        "        return (self._running and self._failed) or not self._ran <= runs\n",
        "        return True\n",
        (SESSION,),
    ),
    Mutant(
        "a server may hold a turn for ten minutes",
        "reconciler/drivers/connection/conversation.py",
        "LONGEST_PATIENCE: Final = 120.0\n",
        "LONGEST_PATIENCE: Final = 600.0\n",
        ("tests/drivers/connection/test_asking.py",),
    ),
    # ── how far the brake reaches ────────────────────────────────────────────────────────────
    Mutant(
        "one harmed server stops a version that has proven itself",
        "reconciler/ledger/brakes.py",
        "(lately or len(well) < OTHERS)",
        "True",
        (BRAKES,),
    ),
    Mutant(
        "harm does not stop a version that has not proven itself",
        "reconciler/ledger/brakes.py",
        "(lately or len(well) < OTHERS)",
        "lately",
        (BRAKES,),
    ),
    Mutant(
        "a second harmed server does not stop its version",
        "reconciler/ledger/brakes.py",
        "(lately or len(well) < OTHERS)",
        "len(well) < OTHERS",
        (BRAKES,),
    ),
    Mutant(
        "the harmed server proves its own version",
        "reconciler/ledger/brakes.py",
        "    well = tuple(one for one in row.well if not _same(one, harmed))\n",
        "    well = row.well\n",
        (BRAKES,),
    ),
    Mutant(
        "two accounts of one process count as two servers",
        "reconciler/ledger/brakes.py",
        "    return one.uid == other.uid or one.target.url == other.target.url\n",
        "    return one.uid == other.uid\n",
        (BRAKES,),
    ),
    Mutant(
        "a harmed server that claims another version is written to",
        "reconciler/model/recorded.py",
        "        return self.harmed.uid == uid or self.harmed.target.url == target.url\n",
        "        return self.harmed.uid == uid and self.brake.version == version\n",
        (BRAKES,),
    ),
    Mutant(
        "harm in this process stops the servers of that version only until the next look",
        "reconciler/apply/circuit_breaker.py",
        "        for scope in (place.url, place.version) if whole else (place.url,):\n",
        "        for scope in (place.url,):\n",
        (BREAKER,),
    ),
    Mutant(
        "a doubt about one server holds no other write of its version",
        "reconciler/apply/circuit_breaker.py",
        "        return bool(self._doubts[place.version])\n",
        "        return False\n",
        (BREAKER,),
    ),
    # ── the controller ───────────────────────────────────────────────────────────────────────
    Mutant(
        "a brake that never reached the ledger lifts by itself",
        "reconciler/apply/circuit_breaker.py",
        "            elif engaged.seen:\n",
        "            else:\n",
        (SHARED,),
    ),
    Mutant(
        "a pass that takes long counts as stuck, whatever it sees",
        "reconciler/controller/progress.py",
        "        if seen is not self._seen or waits:\n",
        "        if waits:\n",
        ("tests/controller/test_stuck.py",),
    ),
    Mutant(
        "who waits for another server's robots counts as stuck",
        "reconciler/controller/progress.py",
        "        if seen is not self._seen or waits:\n",
        "        if seen is not self._seen:\n",
        ("tests/controller/test_stuck.py",),
    ),
    Mutant(
        "a twin is not known right after a boot",
        "reconciler/plan/fleet.py",
        "        for other, others in holding[lines[-1]]:\n",
        "        for other, others in [x for x in holding[lines[-1]] if x[1][-1] == lines[-1]]:\n",
        (SHARED,),
    ),
    Mutant(
        "two documents of one server are not noticed",
        "reconciler/controller/shared.py",
        "            visit.plan = hold_twins([visit.plan], self.boots.items())[0]\n",
        "            pass\n",
        (SHARED,),
    ),
    Mutant(
        "robots are disturbed before every server was looked at",
        "reconciler/controller/shared.py",
        "        if self.quiet or (self.unseen - {target} and waited < patience):\n",
        "        if self.quiet:\n",
        (SHARED,),
    ),
    Mutant(
        "a Vault that was away for too long is never asked again",
        "reconciler/controller/controller.py",
        "            self._shared.cache.down = None if not trouble else self._shared.cache.down\n",
        "",
        ("tests/controller/test_vault_frozen.py",),
    ),
    Mutant(
        "the disruption budget lets the next server through after a failure",
        "reconciler/controller/shared.py",
        "        if well and self.disruption_budget.shut_by == target:\n",
        "        if well:\n",
        (SHARED,),
    ),
    Mutant(
        "drift is corrected for ever",
        "reconciler/controller/requeue.py",
        "CAP: Final = 3 ",
        "CAP: Final = 300 ",
        (LOOP,),
    ),
    Mutant(
        "drift is corrected again at once",
        "reconciler/controller/requeue.py",
        "    if healing.count and wait > 0:\n",
        "    if healing.count and wait > 1e9:\n",
        (TIMES,),
    ),
    Mutant(
        "a restart forgets the backoff",
        "reconciler/controller/requeue.py",
        "    if timing.failures:\n",
        "    if timing.failures < 0:\n",
        (TIMES,),
    ),
    Mutant(
        "a second controller visits the servers as well",
        "reconciler/controller/leader_election.py",
        "                self.unrivalled = False\n                rival = error.what\n",
        "                self.unrivalled = True\n                rival = error.what\n",
        (LOOP,),
    ),
    Mutant(
        "a second signal ends nothing",
        "reconciler/controller/controller.py",
        "            self._dependencies.leave(128 + number)\n",
        "",
        (LOOP,),
    ),
    Mutant(
        "robots that our own reboot stopped are an incident",
        "reconciler/controller/pass_result.py",
        "            mine |= {robot.id for robot in request.ran}\n",
        "            pass\n",
        (ENDS,),
    ),
    Mutant(
        "a secret that has not settled is used",
        "reconciler/observe/resolver.py",
        "        if rest > 0:\n            raise NotSettled(\n",
        "        if rest > 1e9:\n            raise NotSettled(\n",
        (RESOLVER,),
    ),
    Mutant(
        "a fallen server stays without a client while Vault is away",
        "reconciler/observe/resolver.py",
        "            if held is None:\n                raise\n",
        "            if held is not None or held is None:\n                raise\n",
        (LOOP,),
    ),
    Mutant(
        "beside a controller apply does requests, too",
        "reconciler/bootstrap.py",
        "    if not who:\n        return consents\n    why",
        "    if who or not who:\n        return consents\n    why",
        (ROLE,),
    ),
    Mutant(
        "a key that must not be used is pushed",
        "reconciler/apply/audit_gate.py",
        "    return answered, [finding for finding in findings if finding.stops]\n",
        "    return answered, [finding for finding in findings if finding.stops][:0]\n",
        (GATE,),
    ),
    Mutant(
        "exchanges are asked about keys that did not change",
        "reconciler/apply/audit_gate.py",
        "    if audit is None or action.purpose is not Purpose.CHANGE or not",
        "    if audit is None or not",
        (GATE,),
    ),
    Mutant(
        "withdrawing is a right like any other",
        "reconciler/exchanges/judge/permissions.py",
        "    if Cap.WITHDRAW in outside and not reads:\n",
        "    if Cap.WITHDRAW in outside and reads:\n",
        (JUDGE,),
    ),
    Mutant(
        "a permission of unknown name is let through",
        "reconciler/exchanges/judge/permissions.py",
        "    caps = grant.caps or _UNKNOWN\n",
        "    caps = grant.caps - _UNKNOWN\n",
        (JUDGE,),
    ),
    Mutant(
        "what an exchange calls a withdrawal may be anything",
        "reconciler/model/key_facts.py",
        "        if said:\n",
        "        if said and Cap.OTHER not in self.caps:\n",
        (JUDGE,),
    ),
    Mutant(
        "a key of Gate is looked for in full",
        "reconciler/exchanges/adapters/gateio.py",
        "    return same or [row for row, key in shown if take.may_show(key, api_key)]\n",
        "    return same\n",
        (f"{SUITES}/test_gateio.py",),
    ),
    Mutant(
        "of keys of Gate that look alike the first is ours",
        "reconciler/exchanges/adapters/gateio.py",
        "    return same or [row for row, key in shown if take.may_show(key, api_key)]\n",
        "    return same or [row for row, key in shown if take.may_show(key, api_key)][:1]\n",
        (f"{SUITES}/test_gateio.py",),
    ),
    Mutant(
        "no word of withdrawing is a proof of none",
        "reconciler/model/key_audits.py",
        " and Cap.WITHDRAW not in facts.unproven\n",
        "\n",
        ("tests/model/test_key_audits.py",),
    ),
    Mutant(
        "a flag of which nobody has heard is off",
        "reconciler/exchanges/parse.py",
        "        elif value is not False and (value is True or key.startswith(like)):\n",
        "        elif value is not False and (value is True and key.startswith(like)) and False:\n",
        (f"{SUITES}/test_coinbase.py",),
    ),
    Mutant(
        "an incomplete answer is green",
        "reconciler/exchanges/judge/__init__.py",
        '    if lacking := facts.traits.get("lacks"):\n',
        '    if lacking := facts.traits.get("lapses"):\n',
        (f"{SUITES}/test_kucoin.py",),
    ),
    Mutant(
        "of a group that Bybit does not tell nothing is granted",
        "reconciler/exchanges/adapters/bybit.py",
        "(*_FIELDS, *_GROUPS)\n",
        "(*_FIELDS,)\n",
        (f"{SUITES}/test_bybit.py",),
    ),
    Mutant(
        "a refusal in a new word at Kraken Futures is not looked into",
        "reconciler/exchanges/adapters/krakenfutures.py",
        '            if status is not Status.INDETERMINATE or " " in code or not code:\n',
        "            if code or not code:\n",
        (f"{SUITES}/test_krakenfutures.py",),
    ),
    Mutant(
        "a path with a credential is shown as evidence",
        "reconciler/exchanges/ask.py",
        'path = "/(not shown)" if any(',
        'path = "/(not shown)" if all(',
        (AUDITOR,),
    ),
    Mutant(
        "nothing proves that it may not withdraw, and nobody says so",
        "reconciler/render/audit_explain.py",
        "    elif Cap.WITHDRAW in facts.unproven:\n",
        "    elif Cap.WITHDRAW not in facts.unproven:\n",
        ("tests/model/test_audit_explain.py",),
    ),
    Mutant(
        "Coinbase's one word makes a key wrong",
        "reconciler/exchanges/adapters/coinbase.py",
        "    **dict.fromkeys(_AMBIGUOUS, Status.INDETERMINATE),\n",
        "    **dict.fromkeys(_AMBIGUOUS, Status.REJECTED),\n",
        (f"{SUITES}/test_coinbase.py",),
    ),
    Mutant(
        "no days left are an end, whatever the state says",
        "reconciler/exchanges/adapters/htx.py",
        "if left > 0 or ended else None,",
        "if left >= 0 or ended else None,",
        (f"{SUITES}/test_htx.py",),
    ),
    Mutant(
        "another region gets to see a key that nobody offered it",
        "reconciler/exchanges/auditor.py",
        "others = () if first.adapter is None or not siblings else",
        "others = () if first.adapter is None else",
        (AUDITOR,),
    ),
    Mutant(
        "options of Bybit trade no perpetuals",
        "reconciler/exchanges/adapters/bybit.py",
        '    "Options.OptionsTrade": {Cap.OPTION, Cap.PERPETUAL},',
        '    "Options.OptionsTrade": {Cap.OPTION},',
        (f"{SUITES}/test_bybit.py",),
    ),
    Mutant(
        "whoever is refused asks again at once",
        "reconciler/exchanges/ask.py",
        "        if heard or answered.status is not Status.UNREACHABLE:\n",
        "        if answered.status is not Status.UNREACHABLE:\n",
        (AUDITOR,),
    ),
    Mutant(
        "what cannot be right is asked about all the same",
        "reconciler/exchanges/ask.py",
        "    if wrong := adapter.malformed(asking.values()):\n",
        "    if wrong := adapter.malformed(asking.values())[:0]:\n",
        (AUDITOR,),
    ),
    Mutant(
        "a sandbox's key is shown to a real exchange",
        "reconciler/exchanges/auditor.py",
        " if bool(one.base) is bool(askings[0].base))\n",
        ")\n",
        (AUDITOR,),
    ),
    Mutant(
        "a rejected key is tried every day",
        "reconciler/exchanges/auditor.py",
        "                if not again and (rejected := cache.rejected(slot, now)) is not None:\n",
        "                if again and (rejected := cache.rejected(slot, now)) is not None:\n",
        (AUDITOR,),
    ),
    Mutant(
        "the controller has a rejected key tried every day",
        "reconciler/controller/scheduled_audits.py",
        "audit(some, within=within, again=False)",
        "audit(some, within=within)",
        (AUDITS,),
    ),
    Mutant(
        "the gate tries a rejected key every minute",
        "reconciler/apply/audit_gate.py",
        "    if stops and answered.status is not Status.REJECTED:\n",
        "    if stops:\n",
        (GATE,),
    ),
    Mutant(
        "a secret stands in an address",
        "reconciler/exchanges/adapters/deribit.py",
        '                "grant_type": "client_signature",\n',
        '                "grant_type": "client_signature",\n'
        '                "client_secret": exchange.secret,\n',
        (f"{SUITES}/test_deribit.py",),
    ),
    Mutant(
        "a key of KuCoin without a list of addresses is bound",
        "reconciler/exchanges/adapters/kucoin.py",
        '{"ipWhitelist": "", **data}',
        '{"ipWhitelist": "203.0.113.10", **data}',
        (f"{SUITES}/test_kucoin.py",),
    ),
    Mutant(
        "whoever is bound to 0.0.0.0 is bound",
        "reconciler/exchanges/parse.py",
        "        if network is not None and network.network_address.is_unspecified:\n",
        "        if network is not None and network.network_address.is_loopback:\n",
        (f"{SUITES}/test_kucoin.py",),
    ),
    Mutant(
        "an exception for one permission is one for all",
        "reconciler/exchanges/judge/__init__.py",
        "        what = accepted.finding, accepted.permission\n",
        "        what = accepted.finding, (accepted.permission or 'wallet')\n",
        (JUDGE,),
    ),
    Mutant(
        "an exception for no permission is valid",
        "reconciler/documents/validate.py",
        "    if finding in ABOUT_PERMISSIONS and named is None:\n",
        "    if finding not in ABOUT_PERMISSIONS and named is None and not finding:\n",
        ("tests/documents/test_cases.py",),
    ),
    Mutant(
        "an agent serves anybody's sub-account",
        "reconciler/exchanges/adapters/hyperliquid.py",
        "_same(serves, wallet) or serves == owner,",
        "_same(serves, wallet) or owner is not None,",
        (f"{SUITES}/test_hyperliquid.py",),
    ),
    Mutant(
        "a proxy's 401 makes a key wrong",
        "reconciler/exchanges/classify.py",
        "    if status in _VERDICTS and not own_word:\n",
        "    if status in _VERDICTS and not own_word and last_body is None:\n",
        (CLASSIFY,),
    ),
    Mutant(
        "a redirect carries the key elsewhere",
        "reconciler/exchanges/ccxt_client.py",
        "        exchange.session.max_redirects = 0\n",
        "        exchange.session.max_redirects = 30\n",
        (CLIENT,),
    ),
    Mutant(
        "queries with signatures are logged",
        "reconciler/exchanges/ccxt_client.py",
        "    record.msg = _QUERY.sub(_WITH_QUERY, record.getMessage())\n",
        "    record.msg = record.getMessage()\n",
        (CLIENT,),
    ),
    Mutant(
        "a wrong key is tried twice",
        "reconciler/exchanges/ask.py",
        "        if heard or answered.status is not Status.UNREACHABLE:\n",
        "        if answered.status is Status.VALID:\n",
        (AUDITOR,),
    ),
    Mutant(
        "on its schedule the controller is content with what it remembers",
        "reconciler/controller/scheduled_audits.py",
        "audit(some, within=within, again=False)",
        "audit(some, again=False)",
        (AUDITS,),
    ),
    Mutant(
        "the controller's question disturbs a trader",
        "reconciler/controller/scheduled_audits.py",
        "(adapter is None or not adapter.disturbs_trading)",
        "(adapter is None or adapter is not None)",
        (AUDITS,),
    ),
    Mutant(
        "nobody notices that a server leaves from another address",
        "reconciler/controller/worker.py",
        "        if status.outgoing != before.outgoing or pass_result.pushed(report):\n",
        "        if pass_result.pushed(report):\n",
        (AUDITS,),
    ),
    Mutant(
        "a worker keeps the values of the secrets it sent",
        "reconciler/controller/worker.py",
        "        visit.values.clear()\n",
        "        self._kept = dict(visit.values)\n",
        ("tests/threats/test_t06_memory.py",),
    ),
    Mutant(
        "a pass that is over is due again at once",
        "reconciler/controller/worker.py",
        "        return math.inf if again is None else again\n",
        "        return self.timing.due\n",
        ("tests/controller/test_controller.py",),
    ),
    Mutant(
        "what woke a worker in a pass that failed is forgotten",
        "reconciler/controller/worker.py",
        "due=min([timing.due, self._woken_for(), *sooner])",
        "due=min([timing.due, *sooner])",
        ("tests/controller/test_controller.py",),
    ),
    Mutant(
        "a server may say whatever it likes",
        "reconciler/drivers/connection/transport.py",
        "        return min(self._left) >= 0\n",
        "        return True\n",
        ("tests/drivers/connection/test_bounds.py",),
    ),
    Mutant(
        "a key that only may be the one in Vault is adopted",
        "reconciler/reconcile/adopt.py",
        "        if line.status is Status.FOUND or _found_earlier",
        "        if line.exchange in visit.values or _found_earlier",
        ("tests/e2e/test_adopt.py",),
    ),
    Mutant(
        "a path that nobody agreed to send counts as agreed once it was adopted",
        "reconciler/reconcile/adopt.py",
        "visit.withheld.paths if visit.withheld is not None else frozenset()",
        "frozenset()",
        ("tests/e2e/test_adopt.py::test_what_nobody_agreed_to_send_is_not_recorded",),
    ),
    Mutant(
        "a server's word for an exchange may lead to another secret",
        "reconciler/reconcile/adopt.py",
        "    if not _CODE.fullmatch(code):\n",
        "    if not code:\n",
        ("tests/e2e/test_adopt.py::test_a_name_that_a_server_made_up_goes_into_no_path",),
    ),
    Mutant(
        "a new document takes the place of another file",
        "reconciler/documents/new.py",
        "            place.hardlink_to(made)",
        "            made.rename(place)",
        ("tests/documents/test_new.py",),
    ),
    Mutant(
        "weak values are adopted",
        "reconciler/ledger/exchange_state.py",
        "    if write.weak:\n",
        "    if not write:\n",
        ("tests/ledger/test_ledger.py",),
    ),
    Mutant(
        "a pasted token is written into the settings",
        "reconciler/cli/init.py",
        '    if path is not None and ("/" not in path or "\\n" in path):',
        "    if not path and path is not None:",
        ("tests/e2e/test_init.py::test_a_mistake_writes_nothing",),
    ),
    Mutant(
        "new settings are written over those of the system",
        "reconciler/settings/paths.py",
        "    return named or (SYSTEM_FILE if os.path.lexists(SYSTEM_FILE) else own)",
        "    return named or own",
        ("tests/e2e/test_init.py::test_it_writes_over_nothing",),
    ),
    Mutant(
        "whatever stands where an apply once found a key is adopted",
        "reconciler/reconcile/adopt.py",
        "    return found if same and stands else None",
        "    return found if same else None",
        ("tests/e2e/test_adopt.py::test_another_hand_after_a_find_is_not_adopted",),
    ),
)
