//! What a failure of `SQLite` means to a caller.

use rusqlite::ErrorCode;

use crate::Error;

/// A file that ends where more should be.
const SHORT_READ: i32 = rusqlite::ffi::SQLITE_IOERR_SHORT_READ;
/// The file system itself says that it is damaged.
const CORRUPT_FS: i32 = rusqlite::ffi::SQLITE_IOERR_CORRUPTFS;

/// `doing` says what was being done to what.
pub(super) fn translate(doing: &str, error: &rusqlite::Error) -> Error {
    use rusqlite::Error as Sql;
    let text = || format!("{doing}: {error}");
    match error {
        Sql::SqliteFailure(failure, _) => match failure.code {
            ErrorCode::DiskFull => Error::Full(text()),
            ErrorCode::SystemIoFailure if [SHORT_READ, CORRUPT_FS].contains(&failure.extended_code) => {
                Error::Damaged(text())
            }
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Error::Damaged(text()),
            ErrorCode::TooBig => Error::Refused(text()),
            _ => Error::Unavailable(text()),
        },
        // A column that does not hold what was put there.
        Sql::FromSqlConversionFailure(..)
        | Sql::InvalidColumnType(..)
        | Sql::IntegralValueOutOfRange(..)
        | Sql::QueryReturnedNoRows
        | Sql::Utf8Error(..) => Error::Damaged(text()),
        _ => Error::Unavailable(text()),
    }
}

/// Says what was being done when `SQLite` failed.
pub(super) trait Context<T> {
    fn doing(self, what: &str) -> crate::Result<T>;
}

impl<T> Context<T> for rusqlite::Result<T> {
    fn doing(self, what: &str) -> crate::Result<T> {
        self.map_err(|error| translate(what, &error))
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn failures_are_told_apart_by_what_a_caller_can_do() {
        type Make = fn(String) -> Error;
        let table: [(i32, Make); 8] = [
            (ffi::SQLITE_FULL, Error::Full),
            (ffi::SQLITE_CORRUPT, Error::Damaged),
            (ffi::SQLITE_NOTADB, Error::Damaged),
            (ffi::SQLITE_IOERR_SHORT_READ, Error::Damaged),
            (ffi::SQLITE_TOOBIG, Error::Refused),
            (ffi::SQLITE_IOERR_READ, Error::Unavailable),
            (ffi::SQLITE_IOERR_WRITE, Error::Unavailable),
            (ffi::SQLITE_BUSY, Error::Unavailable),
        ];
        for (code, expected) in table {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some("why".to_owned()));
            assert_eq!(
                translate("reading /a", &error),
                expected("reading /a: why".to_owned()),
                "{code}"
            );
        }
    }
}
