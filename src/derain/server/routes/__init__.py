"""The routes. They parse requests and build responses; the work is in the modules of :mod:`derain.server`."""
