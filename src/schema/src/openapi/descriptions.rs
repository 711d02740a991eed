//! What types and fields are for, as the `k8s-openapi` crate says.

use std::collections::HashMap;

/// A line each: a type, a tab and its description; below it each field, a tab before and after. Descriptions are JSON
/// strings, in their quotes.
const TEXT: &str = include_str!(concat!(env!("OUT_DIR"), "/descriptions.txt"));

/// Descriptions of every type that the crate knows; borrowed from the program, read for one rendering.
pub(super) struct Descriptions {
    by_type: HashMap<&'static str, (&'static str, HashMap<&'static str, &'static str>)>,
}

impl Descriptions {
    pub(super) fn read() -> Self {
        let mut by_type: HashMap<_, (_, HashMap<_, _>)> = HashMap::with_capacity(1000);
        let mut name = "";
        for line in TEXT.lines() {
            match line.strip_prefix('\t').map(|field| field.split_once('\t')) {
                None => {
                    let (ty, description) = line.split_once('\t').expect("a type and its description");
                    name = ty;
                    by_type.insert(name, (description, HashMap::new()));
                }
                Some(field) => {
                    let (field, description) = field.expect("a field and its description");
                    by_type
                        .get_mut(name)
                        .expect("a type above its fields")
                        .1
                        .insert(field, description);
                }
            }
        }
        Self { by_type }
    }

    /// Of a type, by its name in OpenAPI; as JSON.
    pub(super) fn of_type(&self, name: &str) -> Option<&'static str> {
        let (description, _) = self.by_type.get(name)?;
        Some(*description).filter(|description| *description != "\"\"")
    }

    /// Of a field; as JSON.
    pub(super) fn of_field(&self, ty: &str, field: &str) -> Option<&'static str> {
        self.by_type.get(ty)?.1.get(field).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{self, PREFIX};

    #[test]
    fn nearly_every_field_is_described() {
        let descriptions = Descriptions::read();
        let pod = "io.k8s.api.core.v1.PodSpec";
        assert!(
            descriptions
                .of_field(pod, "containers")
                .is_some_and(|text| text.starts_with('"') && text.len() > 20)
        );
        let (mut described, mut all) = (0, 0);
        for ty in facts::types()
            .iter()
            .filter(|ty| !ty.hidden && !ty.name.ends_with("List"))
        {
            let name = format!("{PREFIX}{}", ty.name);
            for field in &ty.fields {
                all += 1;
                described += usize::from(descriptions.of_field(&name, field.name).is_some());
            }
        }
        assert!(described * 100 >= all * 95, "{described} of {all} fields are described");
    }

    #[test]
    fn every_description_is_json() {
        for line in TEXT.lines() {
            let description = line.rsplit('\t').next().expect("a last column");
            assert!(serde_json::from_str::<String>(description).is_ok(), "{line}");
        }
    }
}
