"""What folders on an object store need beyond a file system: whole writes, one owner, copies. No torch, no Ray."""
