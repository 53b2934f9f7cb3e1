"""Parts shared by all pages: store and model, URL keys, errors, tokens, layout and the model picker."""
