pytest_plugins = ("harken.testing.pytest_plugin",)
