"""The HTTP server and its page: ``derain serve``. Needs the extra ``derain[server]``."""
