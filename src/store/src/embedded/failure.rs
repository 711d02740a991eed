//! What a failure of `SQLite` means to a caller.

use rusqlite::ErrorCode;

use crate::Error;

/// `doing` says what was being done to what.
pub(super) fn translate(doing: &str, error: &rusqlite::Error) -> Error {
    use rusqlite::Error as Sql;
    let text = || format!("{doing}: {error}");
    match error {
        Sql::SqliteFailure(failure, _) => match failure.code {
            ErrorCode::DiskFull => Error::Full(text()),
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
