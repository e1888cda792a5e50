mod no_leader;
mod resume;
mod trouble;
