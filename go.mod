module walship

go 1.26
