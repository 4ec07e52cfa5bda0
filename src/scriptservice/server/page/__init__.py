"""The web page and the contract as a page: files that are answered as they are."""
