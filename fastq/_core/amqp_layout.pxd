"""Numbers of AMQP 0-9-1 that reading and writing have in common."""

cdef enum:
    FRAME_HEADER = 7      # bytes in front of a payload: type, channel, size
    FRAME_EXTRA = 8       # those and the end byte
    CONTENT_HEADER = 12   # class, weight, size of the body; properties follow
    BASIC = 60            # the class that has messages, and so properties

# Class << 16 | method, of the methods that are not left to the table in `amqp_methods`.
cdef enum:
    PUBLISH = 60 << 16 | 40
    RETURN = 60 << 16 | 50
    DELIVER = 60 << 16 | 60
    GET_OK = 60 << 16 | 71
    ACK = 60 << 16 | 80
    REJECT = 60 << 16 | 90
    NACK = 60 << 16 | 120

# A property's bit in the flags of a content header, which is also its place in the order of all.
cdef enum:
    CONTENT_TYPE = 1 << 15
    CONTENT_ENCODING = 1 << 14
    HEADERS = 1 << 13
    DELIVERY_MODE = 1 << 12
    PRIORITY = 1 << 11
    CORRELATION_ID = 1 << 10
    REPLY_TO = 1 << 9
    EXPIRATION = 1 << 8
    MESSAGE_ID = 1 << 7
    TIMESTAMP = 1 << 6
    TYPE = 1 << 5
    USER_ID = 1 << 4
    APP_ID = 1 << 3
    CLUSTER_ID = 1 << 2
