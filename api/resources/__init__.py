"""The endpoints, one file each; the list of all routes is in api/app.py."""
