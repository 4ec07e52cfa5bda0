/** Keys without a modifier, while nobody types. Pages bring theirs and take them with them. */
export type Keys = Record<string, (event: KeyboardEvent) => void>;

const stack: Keys[] = [];

/** Add keys; return what removes them. The last added are asked first. */
export function addKeys(keys: Keys): () => void {
  stack.push(keys);
  return () => {
    stack.splice(stack.indexOf(keys), 1);
  };
}

function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  // The terminal's own text area takes no text.
  if (target.closest('.screen')) return false;
  return target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName);
}

export function handleKey(event: KeyboardEvent): void {
  if (event.defaultPrevented || event.isComposing) return;
  if ((event.metaKey || event.ctrlKey) && event.key.toLowerCase() === 'k') return press('mod+k', event);
  if (event.metaKey || event.ctrlKey || event.altKey) return;
  if (document.querySelector('dialog[open]')) return;
  if (isTyping(event.target)) return;
  press(event.key, event);
}

function press(key: string, event: KeyboardEvent): void {
  const found = stack.findLast((keys) => keys[key])?.[key];
  if (!found) return;
  event.preventDefault();
  found(event);
}
