mod no_leader;
mod resume;
