"""The process in which `anyref.curation.work` runs a stage under limits: `python -m anyref.curation.child`."""

from anyref.curation.work import serve

if __name__ == "__main__":
    serve()
