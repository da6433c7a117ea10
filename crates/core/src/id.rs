//! Ids: one newtype per entity, all UUIDv7 (RFC 9562), so that they sort by creation. Made by the caller.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
        #[serde(transparent)]
        #[schema(value_type = String, format = "uuid")]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

id!(
    /// A project: one repository of the user's, found again by the path of its git directory.
    ProjectId
);
id!(
    /// A task.
    TaskId
);
id!(
    /// One run of a task.
    RunId
);
id!(
    /// Something that waits for a person; also the standing rule that was made with its answer.
    ApprovalId
);
id!(
    /// An environment. Also the name of its directory on the host.
    EnvironmentId
);
