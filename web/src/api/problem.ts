/** What can go wrong with a request, in the words of the service where it has any. */
import type { ProblemBody } from './types';

/** The service answered with an error (RFC 9457). */
export class Problem extends Error {
  readonly status: number;
  /** The last part of its type: `not-found`, `validation`, … */
  readonly kind: string;
  readonly body: ProblemBody;

  constructor(body: ProblemBody) {
    super(body.detail || body.title);
    this.status = body.status;
    this.kind = body.type.split('/').pop() ?? '';
    this.body = body;
  }

  /** Messages by field, from a 422. */
  get fields(): Map<string, string> {
    return new Map((this.body.errors ?? []).map((entry) => [entry.field, entry.message]));
  }
}

/** Nobody answered, or what answered was not the service. */
export class Unreachable extends Error {
  constructor(detail = 'The service does not answer.') {
    super(detail);
  }
}

/** Return the error that a response with a failing status stands for. */
export async function problemOf(response: Response): Promise<Problem | Unreachable> {
  if ((response.headers.get('content-type') ?? '').includes('json')) {
    try {
      const body = (await response.json()) as ProblemBody;
      if (typeof body.type === 'string') return new Problem({ ...body, status: response.status });
    } catch {
      // Cut short on its way: told below as what it is.
    }
  }
  if (response.status >= 500) {
    return new Unreachable(`The service is not ready (${response.status}).`);
  }
  return new Problem({
    type: `/problems/http-${response.status}`,
    title: response.statusText,
    status: response.status,
    detail: `The service answered ${response.status} ${response.statusText}.`,
    instance: '',
  });
}

/** Whether trying again later can help: nobody answers, or the service says it is not ready. */
export function isPassing(error: unknown): boolean {
  return error instanceof Unreachable || (error instanceof Problem && error.status === 503);
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
