"""The microservice chassis: what every service needs and none owns. It knows no word of the domain."""
