/** Starts the reference of the API, a document of its own beside the page. */
import 'swagger-ui-dist/swagger-ui.css';
import { mount } from 'svelte';
import '../styles/tokens.css';
import DocsPage from './DocsPage.svelte';
import './swagger-ui.css';

mount(DocsPage, { target: document.getElementById('app')! });
