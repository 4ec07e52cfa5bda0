/** Light or dark: the system's setting, unless the reader chooses. The browser stores the choice. */
type Choice = 'system' | 'light' | 'dark';
type TerminalChoice = 'dark' | 'page';

const system = matchMedia('(prefers-color-scheme: dark)');
let systemDark = $state(system.matches);
system.addEventListener('change', () => (systemDark = system.matches));

function load(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null; // The browser denies storage. The choice is then lost when the page is closed.
  }
}

function save(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    // See load().
  }
}

const saved = load('theme');
let choice = $state<Choice>(saved === 'light' || saved === 'dark' ? saved : 'system');
let terminal = $state<TerminalChoice>(load('terminal') === 'page' ? 'page' : 'dark');

function apply(): void {
  if (choice === 'system') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
}
apply();

export const theme = {
  get dark(): boolean {
    return choice === 'system' ? systemDark : choice === 'dark';
  },
  toggle(): void {
    const next = this.dark ? 'light' : 'dark';
    // If the reader chooses the colours that the system has, the page follows the system again.
    choice = next === (systemDark ? 'dark' : 'light') ? 'system' : next;
    save('theme', choice);
    apply();
  },
  /** The terminal is dark, unless the reader chose the page's colours for it. */
  get terminalDark(): boolean {
    return terminal === 'dark' || this.dark;
  },
  get terminalFollowsPage(): boolean {
    return terminal === 'page';
  },
  toggleTerminal(): void {
    terminal = terminal === 'dark' ? 'page' : 'dark';
    save('terminal', terminal);
  },
};
