/**
 * Drafts of new commands. A draft survives when the reader leaves the form, reloads the page or a
 * submit fails. It is removed when the command is submitted, the tab is closed or the reader signs
 * out. There is one draft for `New`, and one for each command that is edited.
 */
import { type Form, formFrom } from './form';

export interface Draft {
  form: Form;
  /** the idempotency key with which exactly this form was sent, if no response came */
  key: string | null;
}

const PREFIX = 'draft:';

export function loadDraft(name: string): Draft | null {
  try {
    const stored = JSON.parse(sessionStorage.getItem(PREFIX + name) ?? 'null') as Partial<Draft> | null;
    const form = formFrom(stored?.form);
    return form && { form, key: typeof stored?.key === 'string' ? stored.key : null };
  } catch {
    return null; // The browser denies storage, or another program wrote there.
  }
}

export function saveDraft(name: string, draft: Draft): void {
  try {
    sessionStorage.setItem(PREFIX + name, JSON.stringify(draft));
  } catch {
    // The browser denies storage or has no more space. The form still has all that was typed.
  }
}

export function clearDraft(name: string): void {
  try {
    sessionStorage.removeItem(PREFIX + name);
  } catch {
    // See loadDraft().
  }
}

export function clearAllDrafts(): void {
  try {
    for (const key of Object.keys(sessionStorage)) {
      if (key.startsWith(PREFIX)) sessionStorage.removeItem(key);
    }
  } catch {
    // See loadDraft().
  }
}
