// Writes src/api/schema.d.ts from the service's OpenAPI document; with --check compares instead.
// The document comes from a file given as argument, else from the Python side of this checkout.
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

const written = `/* Made by \`npm run types\` from the service's OpenAPI document; not by hand. */\n${astToString(
  await openapiTS(JSON.parse(document), { alphabetize: true, defaultNonNullable: false }),
)}`;
if (!check) {
  writeFileSync(target, written);
} else if (readFileSync(target, 'utf8') !== written) {
  console.error('src/api/schema.d.ts is not what the service describes: run npm run types');
  process.exit(1);
}
