"""The only package that imports Ray: the stages of a job wired together, their resources and their sinks."""
