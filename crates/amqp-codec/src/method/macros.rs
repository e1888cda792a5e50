//! Turns the list of methods into the enum, its decoder and its encoder.
//!
//! A line reads: variant, class and method id, name, reserved arguments before the named ones,
//! named arguments, reserved arguments after them. Reserved ones are read and dropped, and written
//! as zero or empty.

macro_rules! methods {
    ($(
        $(#[$doc:meta])*
        $variant:ident = $class:literal, $method:literal, $name:literal,
            [$($before:ty),*] { $($(#[$field_doc:meta])* $field:ident: $kind:ty),* $(,)? } [$($after:ty),*];
    )*) => {
        /// Every method of AMQP 0-9-1 with RabbitMQ's extensions. Reserved arguments are left out.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Method {
            $(
                $(#[$doc])*
                $variant { $($(#[$field_doc])* $field: $kind),* },
            )*
        }

        impl Method {
            /// Decodes arguments from `rest`, a part of `source`.
            fn decode_arguments(
                class_id: u16,
                method_id: u16,
                source: &Bytes,
                rest: &[u8],
            ) -> Result<Self, DecodeError> {
                match (class_id, method_id) {
                    $(
                        ($class, $method) => {
                            let read = || -> Result<Self, ValueError> {
                                #[allow(unused_mut, reason = "a method may have no arguments")]
                                let mut reader = ArgReader::new(source, rest);
                                $(<$before as Argument>::read(&mut reader)?;)*
                                $(let $field = <$kind as Argument>::read(&mut reader)?;)*
                                $(<$after as Argument>::read(&mut reader)?;)*
                                reader.finish()?;
                                Ok(Self::$variant { $($field),* })
                            };
                            read()
                                .map_err(|reason| DecodeError::Arguments {
                                    name: $name,
                                    class_id,
                                    method_id,
                                    reason,
                                })
                        }
                    )*
                    _ => Err(DecodeError::UnknownMethod { class_id, method_id }),
                }
            }

            /// Appends class, method and arguments: the payload of a method frame.
            pub fn encode(&self, out: &mut BytesMut) {
                match self {
                    $(
                        Self::$variant { $($field),* } => {
                            out.put_u16($class);
                            out.put_u16($method);
                            #[allow(unused_mut, reason = "a method may have no arguments")]
                            let mut writer = ArgWriter::new(out);
                            $(<$before>::default().write(&mut writer);)*
                            $($field.write(&mut writer);)*
                            $(<$after>::default().write(&mut writer);)*
                            writer.finish();
                        }
                    )*
                }
            }

            /// The number of its class.
            #[must_use]
            pub fn class_id(&self) -> u16 {
                match self {
                    $(Self::$variant { .. } => $class,)*
                }
            }

            /// Its number in the class.
            #[must_use]
            pub fn method_id(&self) -> u16 {
                match self {
                    $(Self::$variant { .. } => $method,)*
                }
            }

            /// Its name in the specification, like `basic.publish`.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => $name,)*
                }
            }

            /// The name of a method by its numbers, if there is such a method.
            #[must_use]
            pub fn name_of(class_id: u16, method_id: u16) -> Option<&'static str> {
                match (class_id, method_id) {
                    $(($class, $method) => Some($name),)*
                    _ => None,
                }
            }
        }

        /// For every method its numbers, its name, and how to make up one.
        #[cfg(test)]
        pub(crate) const ALL: &[MethodCase] = &[$(
            ($class, $method, $name, |_sampler| Method::$variant {
                $($field: crate::tests::Sample::sample(_sampler)),*
            }),
        )*];
    };
}

pub(super) use methods;
