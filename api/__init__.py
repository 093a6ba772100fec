"""HTTP: resources, the application factory (app.py) and the command line (cli/)."""
