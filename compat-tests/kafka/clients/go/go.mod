module ottla/driver

go 1.24
