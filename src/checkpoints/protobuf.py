"""Protobuf messages of other projects, declared by those of their fields that are needed here."""
from typing import Any, Dict, Tuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


def message_type(*fields: Tuple[str, str, int, str]) -> Any:
    """Make the type of a message; fields that are not declared are kept as they are.

    Args:
        fields: (message, name, number, kind); the first one is of the message that is returned. kind: a type of protobuf, as
            int64, or another message; a * after it repeats the field.
    """
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name='declared.proto', syntax='proto2')
    messages: Dict[str, Any] = {}
    for message, name, number, kind in fields:
        if message not in messages:
            messages[message] = file.message_type.add(name=message)
        plain = kind.rstrip('*')
        field = messages[message].field.add(
            name=name, number=number, label=kinds.LABEL_OPTIONAL if plain == kind else kinds.LABEL_REPEATED)
        if plain.islower():
            field.type = kinds.Type.Value(f'TYPE_{plain.upper()}')
        else:
            field.type, field.type_name = kinds.TYPE_MESSAGE, f'.{plain}'
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(fields[0][0]))
