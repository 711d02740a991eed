//! Certificates, keys and tokens of a cluster: made at the first start, kept in one directory, renewed in time.
//!
//! - [`keeper`]: the directory; makes what is missing, renews what runs out ([`keeper::plan`] decides, purely), and lets
//!   a running TLS listener see the change. It has no task of its own: whoever opened it calls
//!   [`Keeper::renew`] at the time it answers.
//! - [`authority`]: the certificate authority: issues certificates, and signs requests as Kubernetes' signers do
//!   ([`signer`]).
//! - [`certificate`]: what a certificate says; [`key`]: private keys, which are never shown.
//! - [`request`]: what a node asks a certificate with.
//! - [`names`]: what a serving certificate must be valid for.
//! - [`files`]: how all of it lies on disk: a key and its certificate are one file, so no crash parts them.
//! - [`jwt`]: service-account tokens' signatures (ES256 and nothing else), and the key set that others verify with.
//! - [`seal`]: encryption at rest.
//! - [`tls`]: what a listener asks of its clients.
//! - [`bootstrap`]: bootstrap tokens, and the signature of `cluster-info`.
//! - [`kubeconfig`]: what a client needs to know, in one file.
//!
//! Everything that depends on the time takes `now`.

pub mod authority;
pub mod bootstrap;
pub mod certificate;
mod der;
pub mod files;
pub mod jwt;
pub mod keeper;
pub mod key;
pub mod kubeconfig;
pub mod names;
pub mod request;
pub mod seal;
pub mod signer;
pub mod tls;

pub use authority::{Authority, Template};
pub use certificate::Certificate;
pub use files::FileError;
pub use jwt::TokenKeys;
pub use keeper::Keeper;
pub use key::PrivateKey;
pub use seal::Sealer;
