// Writes src/api/schema.d.ts from the service's OpenAPI document; with --check compares instead.
// The document comes from a file given as argument, else from the Python side of this checkout.
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import openapiTS, { astToString } from 'openapi-typescript';

const DOCUMENT = `
import json
from fastapi import FastAPI
from scriptservice.server import openapi
from scriptservice.server.routes import commands, events, health, hosts, metrics, output, session
app = FastAPI(openapi_url=None)
for module in (commands, output, events, hosts, metrics, session, health):
    app.include_router(module.router)
openapi.install(app)
print(json.dumps(app.openapi()))
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
