//! In which form a client wants its answer (`Accept`), and in which it sent its object (`Content-Type`).

use http::{HeaderMap, header};

use super::query::Query;
use crate::status::{Reason, Status};

/// How an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `application/json`
    Json,
    /// `application/yaml`
    Yaml,
    /// `application/vnd.kubernetes.protobuf`
    Protobuf,
}

impl Format {
    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }
}

/// As what an object is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Representation {
    /// As it is.
    Object,
    /// `meta.k8s.io` `Table` of this version.
    Table(MetaVersion),
    /// `PartialObjectMetadata`, in a list `PartialObjectMetadataList`.
    Metadata(MetaVersion),
}

/// A version of `meta.k8s.io`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaVersion {
    /// What everyone asks for.
    V1,
    /// What older clients ask for beside it.
    V1Beta1,
}

impl MetaVersion {
    /// `meta.k8s.io/v1`
    pub fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "meta.k8s.io/v1",
            Self::V1Beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How it is written.
    pub format: Format,
    /// As what it is shown.
    pub representation: Representation,
    /// Whether people read it.
    pub pretty: bool,
}

impl Answer {
    /// JSON, as it is.
    pub const JSON: Self = Self {
        format: Format::Json,
        representation: Representation::Object,
        pretty: false,
    };
}

/// One media range of an `Accept` header.
#[derive(Clone, Debug, PartialEq)]
pub struct Range<'a> {
    /// Such as `application/json`, `*/*`.
    pub media: &'a str,
    /// Such as (`as`, `Table`).
    pub params: Vec<(&'a str, &'a str)>,
    q: f32,
}

impl<'a> Range<'a> {
    /// A parameter's value; empty if it is absent.
    pub fn param(&self, name: &str) -> &'a str {
        let found = self.params.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    /// Whether it takes this media type.
    pub fn takes(&self, media: &str) -> bool {
        let prefix = self.media.strip_suffix('*').unwrap_or(self.media);
        self.media == "*/*"
            || self.media.eq_ignore_ascii_case(media)
            || (prefix.ends_with('/') && media.starts_with(prefix))
    }
}

/// The ranges of an `Accept` header, the most wanted first; those of the same weight in their order.
pub fn ranges(header: &str) -> Vec<Range<'_>> {
    let mut ranges: Vec<_> = header.split(',').filter_map(range).collect();
    ranges.sort_by(|a, b| b.q.total_cmp(&a.q));
    ranges
}

fn range(text: &str) -> Option<Range<'_>> {
    let mut parts = text.split(';').map(str::trim);
    let media = parts.next().filter(|media| !media.is_empty())?;
    let mut q = 1.0;
    let mut params = Vec::new();
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let (name, value) = (name.trim(), value.trim().trim_matches('"'));
        if name.eq_ignore_ascii_case("q") {
            q = value.parse().unwrap_or(1.0);
        } else {
            params.push((name, value));
        }
    }
    (q > 0.0).then_some(Range { media, params, q })
}

/// What is asked of an endpoint's forms.
#[derive(Clone, Copy, Debug)]
pub struct Offers {
    /// Whether the objects have field numbers.
    pub protobuf: bool,
    /// Whether they can be shown as tables.
    pub table: bool,
    /// Whether they have metadata of their own.
    pub metadata: bool,
}

/// Picks the form of an answer; 406 if none will do.
pub fn negotiate(headers: &HeaderMap, query: &Query, offers: Offers) -> Result<Answer, Status> {
    let accept = text(headers, &header::ACCEPT);
    let pretty = pretty(headers, query);
    if accept.is_empty() {
        return Ok(Answer { pretty, ..Answer::JSON });
    }
    let formats: &[_] = if offers.protobuf {
        &[Format::Json, Format::Yaml, Format::Protobuf]
    } else {
        &[Format::Json, Format::Yaml]
    };
    let answer = ranges(accept).iter().find_map(|range| {
        let format = *formats.iter().find(|format| range.takes(format.media_type()))?;
        Some(Answer {
            format,
            representation: representation(range, format, offers)?,
            pretty: pretty || range.param("pretty") == "1",
        })
    });
    answer.ok_or_else(|| {
        let names: Vec<_> = formats.iter().map(|format| format.media_type()).collect();
        Status::new(
            Reason::NotAcceptable,
            format!("only the following media types are accepted: {}", names.join(", ")),
        )
    })
}

/// As what a range wants the object shown; `None` if that can't be.
fn representation(range: &Range<'_>, format: Format, offers: Offers) -> Option<Representation> {
    if !matches!(range.param("stream"), "" | "watch") || !range.param("sv").is_empty() {
        return None;
    }
    let kind = range.param("as");
    if kind.is_empty() && range.param("g").is_empty() && range.param("v").is_empty() {
        return Some(Representation::Object);
    }
    let version = match (range.param("g"), range.param("v")) {
        ("meta.k8s.io", "v1") => MetaVersion::V1,
        ("meta.k8s.io", "v1beta1") => MetaVersion::V1Beta1,
        _ => return None,
    };
    match kind {
        "Table" if offers.table && format != Format::Protobuf => Some(Representation::Table(version)),
        "PartialObjectMetadata" | "PartialObjectMetadataList" if offers.metadata => {
            Some(Representation::Metadata(version))
        }
        _ => None,
    }
}

/// People's programs get their JSON indented.
fn pretty(headers: &HeaderMap, query: &Query) -> bool {
    if let Some(value) = query.text("pretty") {
        return matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True");
    }
    let agent = text(headers, &header::USER_AGENT);
    ["curl", "Wget", "Mozilla/5.0"]
        .iter()
        .any(|name| agent.starts_with(name))
}

/// How a body is written, by its `Content-Type`; JSON if it says nothing.
pub fn body_format(headers: &HeaderMap, protobuf: bool) -> Result<Format, Status> {
    let media = media_type(headers);
    match &*media {
        "" | "application/json" => Ok(Format::Json),
        "application/yaml" => Ok(Format::Yaml),
        "application/vnd.kubernetes.protobuf" if protobuf => Ok(Format::Protobuf),
        _ if protobuf => Err(unsupported(&[
            "application/json",
            "application/yaml",
            "application/vnd.kubernetes.protobuf",
        ])),
        _ => Err(unsupported(&["application/json", "application/yaml"])),
    }
}

/// 415, with what would have done.
pub fn unsupported(accepted: &[&str]) -> Status {
    Status::new(
        Reason::UnsupportedMediaType,
        format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        ),
    )
}

/// The media type of the body, in lower case and without parameters.
pub fn media_type(headers: &HeaderMap) -> String {
    let header = text(headers, &header::CONTENT_TYPE);
    header.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: Offers = Offers {
        protobuf: true,
        table: true,
        metadata: true,
    };

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    fn pick(accept: &str, offers: Offers) -> Result<(Format, Representation), Reason> {
        negotiate(&headers(header::ACCEPT, accept), &Query::default(), offers)
            .map(|answer| (answer.format, answer.representation))
            .map_err(|status| status.reason)
    }

    #[test]
    fn the_most_wanted_form_that_there_is_wins() {
        use Format::{Json, Protobuf, Yaml};
        use Representation::{Metadata, Object, Table};
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,\
                       application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        let table = [
            ("*/*", ALL, Ok((Json, Object))),
            ("application/*", ALL, Ok((Json, Object))),
            ("application/yaml", ALL, Ok((Yaml, Object))),
            ("application/json;q=0.5, application/yaml", ALL, Ok((Yaml, Object))),
            ("application/yaml;q=0, application/json", ALL, Ok((Json, Object))),
            (
                "application/vnd.kubernetes.protobuf,application/json",
                ALL,
                Ok((Protobuf, Object)),
            ),
            (
                "application/vnd.kubernetes.protobuf, application/json",
                Offers { protobuf: false, ..ALL },
                Ok((Json, Object)),
            ),
            (
                "application/vnd.kubernetes.protobuf",
                Offers { protobuf: false, ..ALL },
                Err(Reason::NotAcceptable),
            ),
            ("application/cbor", ALL, Err(Reason::NotAcceptable)),
            ("text/html", ALL, Err(Reason::NotAcceptable)),
            ("text/html,application/xhtml+xml,*/*;q=0.8", ALL, Ok((Json, Object))),
            (kubectl, ALL, Ok((Json, Table(MetaVersion::V1)))),
            (kubectl, Offers { table: false, ..ALL }, Ok((Json, Object))),
            (
                "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io",
                ALL,
                Err(Reason::NotAcceptable),
            ),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                ALL,
                Ok((Protobuf, Metadata(MetaVersion::V1))),
            ),
            (
                "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1beta1",
                ALL,
                Ok((Json, Metadata(MetaVersion::V1Beta1))),
            ),
            (
                "application/json;as=Widget;g=meta.k8s.io;v=v1,application/json",
                ALL,
                Ok((Json, Object)),
            ),
            ("application/json;stream=watch", ALL, Ok((Json, Object))),
        ];
        for (accept, offers, expected) in table {
            assert_eq!(pick(accept, offers), expected, "{accept}");
        }
    }

    #[test]
    fn people_get_their_answer_indented_unless_they_say_otherwise() {
        for (agent, query, expected) in [
            ("curl/8.0", "", true),
            ("curl/8.0", "pretty=false", false),
            ("kubectl/v1.36", "", false),
            ("kubectl/v1.36", "pretty=true", true),
        ] {
            let answer = negotiate(&headers(header::USER_AGENT, agent), &Query::parse(query).unwrap(), ALL);
            assert_eq!(answer.unwrap().pretty, expected, "{agent} {query}");
        }
    }

    #[test]
    fn a_body_is_what_its_header_says() {
        for (kind, protobuf, expected) in [
            ("application/json; charset=utf-8", false, Ok(Format::Json)),
            ("Application/YAML", false, Ok(Format::Yaml)),
            ("application/vnd.kubernetes.protobuf", true, Ok(Format::Protobuf)),
            (
                "application/vnd.kubernetes.protobuf",
                false,
                Err(Reason::UnsupportedMediaType),
            ),
            ("application/cbor", true, Err(Reason::UnsupportedMediaType)),
            ("text/plain", true, Err(Reason::UnsupportedMediaType)),
        ] {
            let format = body_format(&headers(header::CONTENT_TYPE, kind), protobuf);
            assert_eq!(format.map_err(|status| status.reason), expected, "{kind}");
        }
        assert_eq!(body_format(&HeaderMap::new(), true), Ok(Format::Json));
    }

    proptest! {
        #[test]
        fn any_accept_header_is_read_without_a_panic(header in "[ -~]{0,80}") {
            let _ = ranges(&header);
        }
    }
}
