//! A revisioned key-value store with watch: embedded in this process, or etcd.
