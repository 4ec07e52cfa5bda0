/** Starts the API reference, which is an HTML document of its own, not a part of the page. */
import 'swagger-ui-dist/swagger-ui.css';
import { mount } from 'svelte';
import '../styles/tokens.css';
import DocsPage from './DocsPage.svelte';
import './swagger-ui.css';

mount(DocsPage, { target: document.getElementById('app')! });
