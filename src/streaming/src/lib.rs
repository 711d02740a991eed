//! exec, attach and port-forward: SPDY/3.1, the channel protocols over WebSocket, and translation between them.
