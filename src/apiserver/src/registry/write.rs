//! What all writes share: the object as it is, the transaction that changes it, and the answer.

use std::{sync::Arc, time::Duration};

use bosun_api::field::FieldError;
use bosun_kinds::Context;
use bosun_schema::{
    TypeId, Types,
    managed::{self, Model, Writer},
};
use bosun_store::{Compare, Op, Revision, Txn};
use bytes::Bytes;
use serde_json::Value;

use super::{Registry, convert, read, services};
use crate::{
    Request, Resource, Status,
    cache::{
        Cache,
        entry::{encode, with_version},
    },
    options::WriteOptions,
};

/// How often a write is decided anew because something else changed meanwhile, before the user is told to.
pub(super) const ATTEMPTS: usize = 200;

/// How long events are kept.
const EVENT_TTL: Duration = Duration::from_secs(3600);

/// What a write answers.
#[derive(Clone, Debug)]
pub struct Written {
    /// The object as it is now, in the version of the request.
    pub json: Bytes,
    /// Whether it is new.
    pub created: bool,
    /// What the user is told beside.
    pub warnings: Vec<String>,
}

/// An object as it was read, for a change.
pub(super) struct Current {
    /// In the row's version, with its resource version.
    pub(super) object: Value,
    pub(super) revision: Revision,
}

/// Where a write takes place.
pub(super) struct Place<'a> {
    pub(super) request: &'a Request,
    pub(super) row: &'a Arc<Resource>,
    pub(super) cache: Arc<Cache>,
    /// Below the prefix.
    pub(super) key: String,
}

/// Looks at an object, first as it is cached; again, as the store has it.
#[derive(Default)]
pub(super) struct Look {
    looks: usize,
    cached: bool,
}

impl Look {
    /// The object, if there is one.
    pub(super) async fn at(&mut self, place: &Place<'_>) -> Result<Option<Current>, Status> {
        let mut entry = None;
        if self.looks == 0 {
            entry = place.cache.peek(&place.key);
        }
        self.again();
        self.cached = entry.is_some();
        if entry.is_none() {
            entry = place.cache.stored(&place.key).await.map_err(read::unreadable)?;
        }
        Ok(entry.map(|entry| Current {
            revision: entry.revision(),
            object: convert::from_stored(place.row, entry.decode()),
        }))
    }

    /// Counts another attempt.
    pub(super) fn again(&mut self) {
        self.looks += 1;
    }

    /// Whether what was seen last may have been out of date.
    pub(super) fn was_cached(&self) -> bool {
        self.cached
    }

    /// Whether it has been tried often enough.
    pub(super) fn is_over(&self) -> bool {
        self.looks > ATTEMPTS
    }
}

/// The row of a request.
pub(super) fn resource(request: &Request) -> Result<&Arc<Resource>, Status> {
    let row = request.resource.as_ref();
    row.ok_or_else(|| {
        Status::new(
            crate::Reason::NotFound,
            "the server could not find the requested resource",
        )
    })
}

/// `None` if something that was compared has changed.
pub(super) async fn commit(registry: &Registry, txn: Txn) -> Result<Option<Revision>, Status> {
    match registry.store.commit(txn).await {
        Ok(revision) => Ok(Some(revision)),
        Err(bosun_store::Error::Conflict) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Registry {
    pub(super) fn place<'a>(&self, request: &'a Request, name: &str) -> Result<Place<'a>, Status> {
        let row = resource(request)?;
        Ok(Place {
            request,
            row,
            cache: self.cache(row)?,
            key: read::key(row, &request.namespace, name),
        })
    }

    /// Adds to `txn` that `object`, of the row's version, takes the place of what was last changed at `was`. Gives what is
    /// stored, before it is sealed.
    pub(super) fn put(
        &self,
        place: &Place<'_>,
        object: &Value,
        was: Revision,
        txn: &mut Txn,
    ) -> Result<Vec<u8>, Status> {
        let key = place.cache.store_key(&place.key);
        let plain = encode(&convert::to_stored(place.row, object));
        let value = self
            .transformer(&place.row.prefix)
            .seal(&key, plain.clone())
            .map_err(Status::internal)?;
        let ttl =
            (&*place.row.plural == "events" && matches!(&*place.row.group, "" | "events.k8s.io")).then_some(EVENT_TTL);
        txn.compares.push(Compare::Modified(key.clone(), was));
        txn.ops.push(Op::Put { key, value, ttl });
        Ok(plain)
    }

    /// Adds to `txn` that the object goes, with what it has elsewhere.
    pub(super) fn take_away(&self, place: &Place<'_>, current: &Current, txn: &mut Txn) -> Result<(), Status> {
        let key = place.cache.store_key(&place.key);
        txn.compares.push(Compare::Modified(key.clone(), current.revision));
        txn.ops.push(Op::Delete { key });
        if services::is_service(place.row) {
            self.release_service(&current.object, txn)?;
        }
        Ok(())
    }
}

/// An object as it is answered.
pub(super) fn answer(row: &Resource, object: &Value, stored: &[u8], revision: Revision) -> Bytes {
    if row.storage {
        with_version(stored, revision)
    } else {
        with_version(&encode(object), revision)
    }
}

/// An object as it is answered to a dry run, which stores nothing: with the version it has, if it has one.
pub(super) fn answer_dry(object: &Value, revision: Option<Revision>) -> Bytes {
    match revision {
        Some(revision) => with_version(&encode(object), revision),
        None => encode(object).into(),
    }
}

/// Notes who owns the fields of `object`.
pub(super) fn track(
    registry: &Registry,
    place: &Place<'_>,
    options: &WriteOptions,
    old: Option<&Value>,
    object: &mut Value,
) {
    let (api_version, versions) = (place.row.api_version(), Versions::of(registry, place.row));
    managed::update(
        &model(place, &api_version, &versions),
        &writer(place, options),
        old,
        object,
    );
}

/// The versions that an object has.
pub(super) struct Versions<'a> {
    row: &'a Resource,
    all: Vec<Arc<Resource>>,
}

impl<'a> Versions<'a> {
    pub(super) fn of(registry: &Registry, row: &'a Resource) -> Self {
        let all = registry.table().versions(&row.prefix).cloned().collect();
        Self { row, all }
    }

    fn named(&self, api_version: &str) -> Option<&Resource> {
        let row = self.all.iter().find(|row| row.api_version() == api_version)?;
        Some(row)
    }
}

impl managed::Versions for Versions<'_> {
    fn model(&self, api_version: &str) -> Option<(&Types, TypeId)> {
        self.named(api_version).map(|row| (&*row.types, row.ty))
    }

    fn convert(&self, object: &Value, to: &str) -> Option<Value> {
        let stored = convert::to_stored(self.row, object).into_owned();
        Some(convert::from_stored(self.named(to)?, stored))
    }
}

pub(super) fn model<'a>(place: &'a Place<'_>, api_version: &'a str, versions: &'a Versions<'_>) -> Model<'a> {
    Model {
        types: &place.row.types,
        ty: place.row.ty,
        api_version,
        versions: (versions.all.len() > 1).then_some(versions),
        reset: if place.row.subresources.iter().any(|sub| &*sub.name == "status") {
            managed::reset_fields(&place.request.subresource)
        } else {
            &managed::NOTHING
        },
    }
}

pub(super) fn writer<'a>(place: &'a Place<'_>, options: &'a WriteOptions) -> Writer<'a> {
    Writer {
        manager: &options.field_manager,
        subresource: &place.request.subresource,
        now: place.request.now,
    }
}

pub(super) fn context(request: &Request) -> Context<'_> {
    Context {
        now: request.now,
        subresource: &request.subresource,
    }
}

/// All errors as one answer.
pub(super) fn invalid(row: &Resource, name: &str, errors: &[FieldError]) -> Status {
    Status::invalid(&row.group, &row.kind, name, errors)
}
