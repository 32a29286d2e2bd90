//! All five services in one process, over loopback gRPC.
