"""The use cases: plan, shift, watch, restore, drain, finish, guard. Each a short function that tells its story."""
