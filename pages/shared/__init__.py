"""What every page shares: the store and the model, URL keys, errors, tokens, layout and the model picker."""
