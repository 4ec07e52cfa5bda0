/** The part of Swagger UI that the reference uses; the package has no types. */
declare module 'swagger-ui-dist/swagger-ui-es-bundle.js' {
  export interface ApiRequest {
    url: string;
    method: string;
    headers: Record<string, string>;
    loadSpec?: boolean;
  }

  export interface SwaggerUi {
    layoutActions: { show(thing: string[], shown: boolean): void };
  }

  export default function SwaggerUI(options: {
    domNode: Element;
    spec: unknown;
    deepLinking: boolean;
    displayRequestDuration: boolean;
    showMutatedRequest: boolean;
    validatorUrl: null;
    syntaxHighlight: { theme: string };
    requestInterceptor(request: ApiRequest): Promise<ApiRequest>;
    onComplete(): void;
  }): SwaggerUi;
}
