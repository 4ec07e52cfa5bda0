"""The web page's files, and the API documentation as a page."""
