/** Keyboard shortcuts. They work while the focus is in no text field and no dialog is open. */
export type Keys = Record<string, (event: KeyboardEvent) => void>;

const stack: Keys[] = [];

/** Add shortcuts and return a function that removes them. The newest shortcut for a key wins. */
export function addKeys(keys: Keys): () => void {
  stack.push(keys);
  return () => {
    stack.splice(stack.indexOf(keys), 1);
  };
}

function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  // The terminal has a text area, but it accepts no input.
  if (target.closest('.screen')) return false;
  return target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName);
}

export function handleKey(event: KeyboardEvent): void {
  if (event.defaultPrevented || event.isComposing) return;
  if ((event.metaKey || event.ctrlKey) && event.key.toLowerCase() === 'k') return press('mod+k', event);
  if (event.metaKey || event.ctrlKey || event.altKey) return;
  if (document.querySelector('dialog[open]')) return;
  if (isTyping(event.target) || activates(event)) return;
  press(event.key, event);
}

/** Return whether the browser itself acts on the key, because a button or link has the focus. */
function activates(event: KeyboardEvent): boolean {
  if (event.key !== 'Enter' && event.key !== ' ') return false;
  return event.target instanceof Element && event.target.closest('a, button, summary') !== null;
}

function press(key: string, event: KeyboardEvent): void {
  const action = stack.findLast((keys) => keys[key])?.[key];
  if (!action) return;
  event.preventDefault();
  action(event);
}
