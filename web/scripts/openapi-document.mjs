// The service's OpenAPI document: the given file, or what the Python code of this checkout makes.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

const PROGRAM = `
import json
from scriptservice.server.application import openapi_document
print(json.dumps(openapi_document()))
`;

export function openapiDocument(file) {
  if (file) return readFileSync(file, 'utf8');
  const python = new URL('../../.venv/bin/python', import.meta.url).pathname;
  return execFileSync(python, ['-c', PROGRAM], { encoding: 'utf8', maxBuffer: 1 << 26 });
}
