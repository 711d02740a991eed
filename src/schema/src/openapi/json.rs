//! JSON, written as it comes: a tree of these documents would be ten times their size.

use serde_json::Value;

/// A JSON text being written.
#[derive(Default)]
pub(super) struct Json {
    out: Vec<u8>,
    /// Whether the next value stands behind another one.
    comma: bool,
}

impl Json {
    pub(super) fn object(&mut self, members: impl FnOnce(&mut Self)) {
        self.nested(b'{', members, b'}');
    }

    pub(super) fn array(&mut self, items: impl FnOnce(&mut Self)) {
        self.nested(b'[', items, b']');
    }

    fn nested(&mut self, open: u8, content: impl FnOnce(&mut Self), close: u8) {
        self.separate();
        self.out.push(open);
        self.comma = false;
        content(self);
        self.out.push(close);
        self.comma = true;
    }

    /// The name of a member, whose value comes next.
    pub(super) fn key(&mut self, key: &str) -> &mut Self {
        self.string(key);
        self.out.push(b':');
        self.comma = false;
        self
    }

    pub(super) fn string(&mut self, text: &str) {
        self.separate();
        serde_json::to_writer(&mut self.out, text).expect("memory takes what is written");
    }

    pub(super) fn strings<'s>(&mut self, texts: impl IntoIterator<Item = &'s str>) {
        self.array(|json| texts.into_iter().for_each(|text| json.string(text)));
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.value(&Value::Bool(value));
    }

    pub(super) fn value(&mut self, value: &Value) {
        self.separate();
        serde_json::to_writer(&mut self.out, value).expect("memory takes what is written");
    }

    /// Text that is JSON already.
    pub(super) fn raw(&mut self, json: &str) {
        self.separate();
        self.out.extend_from_slice(json.as_bytes());
    }

    fn separate(&mut self) {
        if self.comma {
            self.out.push(b',');
        }
        self.comma = true;
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.out
    }
}
