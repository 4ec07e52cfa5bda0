// Checks the size of what every visit loads: the entry, its imports and its styles. Files that are
// imported lazily, such as the editor, are listed but not counted.
import { readFileSync, readdirSync } from 'node:fs';
import { gzipSync } from 'node:zlib';

const LIMIT_BYTES = 350_000;
const root = new URL('../../src/scriptservice/ui/', import.meta.url);
const read = (path) => readFileSync(new URL(path.replace(/^\//, ''), root));
const size = (path) => gzipSync(read(path), { level: 9 }).length;

const html = read('index.html').toString();
const initial = new Set(['index.html']);
const pending = [...html.matchAll(/(?:src|href)="\/(assets\/[^"]+)"/g)].map((match) => match[1]);
while (pending.length) {
  const path = pending.pop();
  if (initial.has(path)) continue;
  initial.add(path);
  if (!path.endsWith('.js')) continue;
  // Static imports only: `import … from"./x.js"` and `import"./x.js"`, not `import("./x.js")`.
  for (const match of read(path).toString().matchAll(/(?:\bfrom|\bimport)\s*["']\.\/([^"']+\.js)["']/g)) {
    pending.push(`assets/${match[1]}`);
  }
}
const kilobytes = (bytes) => `${(bytes / 1000).toFixed(1)} kB`.padStart(10);
let total = 0;
for (const path of initial) {
  total += size(path);
  console.log(`${kilobytes(size(path))}  ${path}`);
}
for (const name of readdirSync(new URL('assets/', root))) {
  const path = `assets/${name}`;
  if (!initial.has(path)) console.log(`${kilobytes(size(path))}  ${path}  (loaded lazily)`);
}
console.log(`${kilobytes(total)}  gzipped for the first visit, limit ${LIMIT_BYTES / 1000} kB`);
if (total > LIMIT_BYTES) {
  console.error(`the first visit loads ${kilobytes(total).trim()}, more than the limit`);
  process.exit(1);
}
