/** The errors of a request, and how to make them from a response. */
import type { ProblemBody } from './types';

/** The service responded with an error (RFC 9457). */
export class Problem extends Error {
  readonly status: number;
  /** The last part of the problem type: `not-found`, `validation`, … */
  readonly kind: string;
  readonly body: ProblemBody;

  constructor(body: ProblemBody) {
    super(body.detail || body.title);
    this.status = body.status;
    this.kind = body.type.split('/').pop() ?? '';
    this.body = body;
  }
}

/** The service did not respond, or something else responded in its place. */
export class Unreachable extends Error {
  constructor(detail = 'The service does not respond.') {
    super(detail);
  }
}

/** Return the error for a response whose status is not 2xx. */
export async function errorFromResponse(response: Response): Promise<Problem | Unreachable> {
  if ((response.headers.get('content-type') ?? '').includes('json')) {
    try {
      const body = (await response.json()) as ProblemBody;
      if (typeof body.type === 'string') return new Problem({ ...body, status: response.status });
    } catch {
      // The body was cut short. The status is enough for the errors below.
    }
  }
  if (response.status >= 500) {
    return new Unreachable(`The service is not ready (HTTP ${response.status}).`);
  }
  return new Problem({
    type: `/problems/http-${response.status}`,
    title: response.statusText,
    status: response.status,
    detail: `The service responded with HTTP ${response.status} ${response.statusText}.`,
    instance: '',
  });
}

/** Return whether the request may succeed later: the service does not respond or is not ready. */
export function isTemporary(error: unknown): boolean {
  return error instanceof Unreachable || (error instanceof Problem && error.status === 503);
}

/** Return what happened. The detail of a problem says what is wrong with each field. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
