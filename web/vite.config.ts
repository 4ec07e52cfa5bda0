import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

// `npm run dev` serves the page from Vite and forwards API requests to this service.
const service = process.env.SCRIPTSERVICE_URL ?? 'http://127.0.0.1:8000';

export default defineConfig({
  plugins: [svelte()],
  build: {
    outDir: '../src/scriptservice/ui',
    emptyOutDir: true,
    target: 'es2022',
    // The content security policy allows no inline scripts and no data: URLs for scripts or fonts.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 2000, // Swagger UI, for the reference alone
    // The page, and the reference of the API.
    rollupOptions: { input: ['index.html', 'docs.html'] },
    reportCompressedSize: false,
  },
  server: { proxy: { '/v1': service, '/openapi.json': service } },
  test: { include: ['src/**/*.test.ts'], environment: 'node' },
});
