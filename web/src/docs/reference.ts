/** Shows the OpenAPI document with Swagger UI, and lets requests be tried with the page's session. */
import SwaggerUI, { type ApiRequest } from 'swagger-ui-dist/swagger-ui-es-bundle.js';
import { getJson } from '../api/client';
import { csrfHeader, refreshSession } from '../api/session.svelte';

/** The operation that is open at first: its group and its id. */
const FIRST = ['operations', 'commands', 'submitCommand'];
const SAFE_METHODS = ['GET', 'HEAD', 'OPTIONS'];

interface OpenApiDocument {
  paths: Record<string, Record<string, { security?: Record<string, unknown>[] }>>;
  components: { securitySchemes: Record<string, unknown> };
}

/** Show the reference in an element. Throws what `getJson` throws. */
export async function showReference(domNode: Element): Promise<void> {
  const spec = withoutSession(await getJson<OpenApiDocument>('/openapi.json'));
  const reference = SwaggerUI({
    domNode,
    spec,
    deepLinking: true,
    displayRequestDuration: true,
    // A shown curl command would contain the CSRF token, which is useless without the cookie.
    showMutatedRequest: false,
    // By default, Swagger UI sends the document to a server on the internet for validation.
    validatorUrl: null,
    syntaxHighlight: { theme: 'obsidian' },
    requestInterceptor: withCsrfToken,
    onComplete: () => {
      if (location.hash.length < 2) reference.layoutActions.show(FIRST, true);
    },
  });
}

/** Remove the cookie from the ways to authorize: the browser sends it, and nobody can enter it. */
function withoutSession(document: OpenApiDocument): OpenApiDocument {
  delete document.components.securitySchemes.session;
  for (const operations of Object.values(document.paths)) {
    for (const operation of Object.values(operations)) {
      operation.security = operation.security?.filter((scheme) => !('session' in scheme)) ?? [];
    }
  }
  return document;
}

/** Add the CSRF token of the session to a request that changes something and has no token. */
async function withCsrfToken(request: ApiRequest): Promise<ApiRequest> {
  if (SAFE_METHODS.includes(request.method.toUpperCase()) || request.headers.Authorization) {
    return request;
  }
  await refreshSession(); // another tab may have begun a new session
  Object.assign(request.headers, csrfHeader());
  return request;
}
