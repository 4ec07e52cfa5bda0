// Writes src/api/schema.d.ts from the service's OpenAPI document. With --check it only compares.
// The document is the file given as an argument, or is made by the Python code of this checkout.
import { readFileSync, writeFileSync } from 'node:fs';
import openapiTS, { astToString } from 'openapi-typescript';
import { openapiDocument } from './openapi-document.mjs';

const target = new URL('../src/api/schema.d.ts', import.meta.url);
const args = process.argv.slice(2);
const check = args.includes('--check');
const file = args.find((arg) => !arg.startsWith('--'));
const document = openapiDocument(file);

const generated = `/* Made by \`npm run types\` from the service's OpenAPI document; not by hand. */\n${astToString(
  await openapiTS(JSON.parse(document), { alphabetize: true, defaultNonNullable: false }),
)}`;
if (!check) {
  writeFileSync(target, generated);
} else if (readFileSync(target, 'utf8') !== generated) {
  console.error('src/api/schema.d.ts does not match the service: run `npm run types`');
  process.exit(1);
}
