//! The client side: HTTP on the stable socket, relay from the worker link, errors and keep-alive.
