// Lints the service's OpenAPI document, or the file given as an argument, with the recommended rules
// of Redocly and Spectral. Any error or warning fails.
import { createConfig, lintFromString } from '@redocly/openapi-core';
import spectral from '@stoplight/spectral-core';
import rulesets from '@stoplight/spectral-rulesets';
import { openapiDocument } from './openapi-document.mjs';

const document = openapiDocument(process.argv[2]);

// A WebSocket answers 101 and has no 2XX response. Neither linter knows such an operation.
const parsed = JSON.parse(document);
const successRules = ['operation-2xx-response', 'operation-success-response'];
function isOfWebSocket(rule, path) {
  const responses = path.reduce((part, name) => part?.[name], parsed);
  return successRules.includes(rule) && responses?.['101'] !== undefined;
}
function pathOf(pointer = '') {
  const names = pointer.split('/').slice(1);
  return names.map((name) => name.replaceAll('~1', '/').replaceAll('~0', '~'));
}

const config = await createConfig({ extends: ['recommended'] });
const found = [];
for (const { ruleId, location, message } of await lintFromString({ source: document, config })) {
  const pointer = location[0]?.pointer ?? '';
  if (!isOfWebSocket(ruleId, pathOf(pointer))) found.push(`redocly ${ruleId} ${pointer}: ${message}`);
}

const linter = new spectral.Spectral();
linter.setRuleset({ extends: [[rulesets.oas, 'recommended']] });
for (const { code, path, message } of await linter.run(parsed)) {
  if (!isOfWebSocket(code, path)) found.push(`spectral ${code} ${path.join('/')}: ${message}`);
}

for (const line of found) console.error(line);
if (found.length) {
  console.error(`the OpenAPI document has ${found.length} faults`);
  process.exit(1);
}
