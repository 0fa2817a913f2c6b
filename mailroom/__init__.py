"""What gateway and worker share: the words, the rules, the queue and the store."""
