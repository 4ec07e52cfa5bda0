// Lints the service's OpenAPI document, or the file given as an argument, with the recommended rules
// of Redocly and Spectral. Any error or warning fails.
import { createConfig, lintFromString } from '@redocly/openapi-core';
import spectral from '@stoplight/spectral-core';
import rulesets from '@stoplight/spectral-rulesets';
import { openapiDocument } from './openapi-document.mjs';

const document = openapiDocument(process.argv[2]);

const config = await createConfig({ extends: ['recommended'] });
const found = (await lintFromString({ source: document, config })).map(
  ({ ruleId, location, message }) => `redocly ${ruleId} ${location[0]?.pointer ?? ''}: ${message}`,
);

const linter = new spectral.Spectral();
linter.setRuleset({ extends: [[rulesets.oas, 'recommended']] });
for (const { code, path, message } of await linter.run(JSON.parse(document))) {
  found.push(`spectral ${code} ${path.join('/')}: ${message}`);
}

for (const line of found) console.error(line);
if (found.length) {
  console.error(`the OpenAPI document has ${found.length} faults`);
  process.exit(1);
}
