"""The RabbitMQ broker."""
