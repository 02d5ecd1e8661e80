//! KRaft driven over the ports.
