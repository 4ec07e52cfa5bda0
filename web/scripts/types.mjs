// Writes src/api/schema.d.ts from the service's OpenAPI document. With --check it only compares.
// The document is the file given as an argument, or is made by the Python code of this checkout.
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import openapiTS, { astToString } from 'openapi-typescript';

const DOCUMENT = `
import json
from scriptservice.server.application import openapi_document
print(json.dumps(openapi_document()))
`;

const target = new URL('../src/api/schema.d.ts', import.meta.url);
const args = process.argv.slice(2);
const check = args.includes('--check');
const file = args.find((arg) => !arg.startsWith('--'));
const python = new URL('../../.venv/bin/python', import.meta.url).pathname;
const document = file
  ? readFileSync(file, 'utf8')
  : execFileSync(python, ['-c', DOCUMENT], { encoding: 'utf8', maxBuffer: 1 << 26 });

const generated = `/* Made by \`npm run types\` from the service's OpenAPI document; not by hand. */\n${astToString(
  await openapiTS(JSON.parse(document), { alphabetize: true, defaultNonNullable: false }),
)}`;
if (!check) {
  writeFileSync(target, generated);
} else if (readFileSync(target, 'utf8') !== generated) {
  console.error('src/api/schema.d.ts does not match the service: run `npm run types`');
  process.exit(1);
}
